/* Purpose: objects that travel by reference between the processes of a context.
 * Who calls it: programs that link libaepmalloc, or that run under its preload and declare these.
 * Crash rule: a process that is killed inside any of these leaves the operation done or not begun;
 *             its references go with it, and what others hold stays.
 *
 * A process is a client of a context when it runs under `aep run` (or with AEP_CONTEXT set). There,
 * every block of its heap, from dsm_malloc or from malloc, can be sent:
 *
 *     void *p = dsm_malloc(n);
 *     dsm_send(peer, p);                      p stays readable here until dsm_free(p)
 *     void *q = dsm_recv(DSM_ANY, -1, &info); the same address, in the other process
 *
 * An object lives until the last reference to it is dropped. Its owner (who allocated it) has one,
 * a message under way has one, and every dsm_recv gives one. References count only the object that
 * is sent: what it points at must be kept alive by its owner. Contents are shared, not copied: the
 * processes agree among themselves who writes when.
 *
 * All functions are thread-safe and, but for dsm_strerror, not async-signal-safe. Those that return
 * int return 0, or -1 with errno set and nothing changed. Each costs one operation through the
 * shadow entry (tens of ns) unless it waits. A forked child is no client: it must exec or allocate
 * first, and what it inherited is a private copy of its own. A process that forked cannot send what
 * lay in its heap at that moment (EXDEV); what it had sent before stays as it was then for the
 * others.
 *
 * errno of all: ENOTCONN: the process is not a client, or has not called dsm_attach;
 * ENOTRECOVERABLE: the context is poisoned; ESTALE: this node was declared dead by others; ENOMEM:
 * no memory or over a limit; EDEADLK: below a signal handler that interrupted this library.
 */
#ifndef AEP_DSM_H
#define AEP_DSM_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* A client, for its whole life and no other's. */
typedef uint64_t dsm_id;
#define DSM_ANY ((dsm_id)0)

/* Longest name, with its terminating zero. */
#define DSM_NAME_MAX 32

struct dsm_info {
    dsm_id sender; /* may be dead by now */
    size_t size;   /* bytes that may be used */
};

/* Takes part in sharing, under a name that is unique in the context (null: none). Again: changes
 * the name. EINVAL: the name is empty or too long; EEXIST: a living client has it. */
int dsm_attach(const char* name);

/* This process; 0 (ENOTCONN) before dsm_attach. */
dsm_id dsm_self(void);

/* The living client with that name; 0: ENOENT. Linear in the clients. */
dsm_id dsm_lookup(const char* name);

/* As malloc, calloc, realloc and aligned_alloc, for a client: null with ENOTCONN elsewhere. Memory
 * from dsm_malloc and from malloc is the same. dsm_realloc of an object that others refer to gives
 * a copy and drops this process's reference. */
void* dsm_malloc(size_t size);
void* dsm_calloc(size_t count, size_t size);
void* dsm_realloc(void* object, size_t size);
void* dsm_aligned_alloc(size_t alignment, size_t size);

/* Drops one of this process's references to an object of its own or one it received; the memory
 * goes with the last one. null: nothing. free() does the same. EINVAL: it has none. */
int dsm_free(void* object);
/* One more reference for this process, which needs a dsm_free more. EINVAL, EXDEV as dsm_send. */
int dsm_ref(void* object);
/* The same as dsm_free. */
int dsm_unref(void* object);
/* Bytes that may be used; 0: no object of this process's and none it has received. */
size_t dsm_usable_size(void* object);
/* References there are now, of all clients and messages; 0: it was never sent. For tests. */
size_t dsm_references(void* object);

/* Puts a reference to the object into the mailbox of `to`. EINVAL: not the start of a live object
 * that this process allocated or received; ESRCH: no such client, or it is dead or has not called
 * dsm_attach; EAGAIN: its mailbox (512 messages) is full; EXDEV: the object lies in memory that a
 * fork made private. */
int dsm_send(dsm_id to, void* object);
/* The same, waiting for room up to `timeout_ms` (-1: for ever). ETIMEDOUT; EINTR: a handler ran. */
int dsm_send_wait(dsm_id to, void* object, int timeout_ms);

/* The oldest message from `from`, or from anybody; null: errno. `timeout_ms` 0: do not wait
 * (EAGAIN); -1: for ever; ETIMEDOUT. EINTR: a handler ran. ESRCH: `from` is dead and there is no
 * message of it. `info` may be null. */
void* dsm_recv(dsm_id from, int timeout_ms, struct dsm_info* info);

/* A descriptor for poll, select and epoll, the same one at every call: readable while a message may
 * be waiting for this process. It becomes readable when one comes, stays so until a dsm_recv finds
 * nothing (EAGAIN, ETIMEDOUT), and is readable again with the next message; nothing is missed
 * between the two, in edge-triggered loops neither. So: when it is readable, call
 * dsm_recv(DSM_ANY, 0, ...) until EAGAIN. It may be readable without a message, e.g. when another
 * thread was faster or a client has died. Who receives from one peer alone while messages of others
 * wait finds it readable again and again.
 *
 * It is for waiting only: do not read, write or close it. It is closed on exec and in a forked
 * child, which makes its own after dsm_attach. The first call starts a thread (aep-dsm-fd) that
 * blocks all signals, runs no code of the program and ends with the process; it keeps the user
 * whom the process had then. -1: ENOTCONN; EMFILE, ENFILE, ENOMEM; EAGAIN: no thread can be made.
 * Cost: while it is not readable, a system call for the next sender, and two context switches until
 * the loop runs; with other nodes the thread looks for messages once a millisecond. */
int dsm_fd(void);

/* What an errno of these functions means in their terms, a static string; "unknown error" for what
 * none of them says. Never fails; async-signal-safe. */
const char* dsm_strerror(int error);

#ifdef __cplusplus
}
#endif
#endif
