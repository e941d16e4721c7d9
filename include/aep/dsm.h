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
 * All functions are thread-safe and, but for dsm_strerror and dsm_version, not async-signal-safe. Those that return
 * int return 0, or -1 with errno set and nothing changed. Each costs one operation through the
 * shadow entry (tens of ns) unless it waits. A forked child is no client until it
 * calls dsm_attach, and what it inherited is a private copy of its own. A process that forked
 * cannot send what lay in its heap at that moment (EXDEV), nor, as a rule, what malloc gives
 * afterwards; what dsm_malloc gives can be sent. What it had sent before stays as it was then for
 * the others.
 *
 * errno of all: ENOTCONN: the process is not a client, or has not called dsm_attach;
 * ENOTRECOVERABLE: the context is poisoned; ESTALE: this node was declared dead by others;
 * ENETUNREACH: it has no quorum, and nothing crosses nodes until it has; ENOMEM:
 * no memory or over a limit; EDEADLK: below a signal handler that interrupted this library.
 */
#ifndef AEP_DSM_H
#define AEP_DSM_H

#include <stddef.h>
#include <stdint.h>

/* The version of this header; of the library that the program runs with: dsm_version(). Within one major version a
 * program runs with every library that is not older than the header it was compiled with. */
#define DSM_VERSION_MAJOR 1
#define DSM_VERSION_MINOR 3
#define DSM_VERSION_PATCH 0
#define DSM_VERSION (DSM_VERSION_MAJOR * 10000 + DSM_VERSION_MINOR * 100 + DSM_VERSION_PATCH)

/* None of these functions throws. */
#ifdef __cplusplus
#if __cplusplus >= 201103L
#define DSM_NOEXCEPT noexcept
#else
#define DSM_NOEXCEPT throw()
#endif
extern "C" {
#else
#define DSM_NOEXCEPT
#endif

/* A client, for its whole life and no other's; or a further mailbox of one, from its opening to its closing. */
typedef uint64_t dsm_id;
#define DSM_ANY UINT64_C(0)

/* All the objects of one data structure; its address, the same in every process. */
typedef struct dsm_group dsm_group;

/* Longest name, with its terminating zero. */
#define DSM_NAME_MAX 32

struct dsm_info {
    dsm_id sender;    /* may be dead by now */
    size_t size;      /* bytes that may be used; 0: a group without a root */
    dsm_group* group; /* whose root it is; null: an object by itself */
};

/* Takes part in sharing, under a name that is unique in the context (null: none). Again: changes
 * the name. A name whose client has just died is waited for, 5 s at most. EINVAL: the name is empty or too long; EEXIST: a
 * living client has it. */
int dsm_attach(const char* name) DSM_NOEXCEPT;

/* Takes part no more: its name is free, who sends to it or waits for it is told ESRCH, messages that it has not received are
 * dropped, its further mailboxes are closed. What it holds it keeps until it drops it, and what it has sent stays; dsm_attach takes part
 * again, with the same id. Threads that wait for a message meanwhile: ENOTCONN. */
int dsm_detach(void) DSM_NOEXCEPT;

/* This process; 0 (ENOTCONN) before dsm_attach. */
dsm_id dsm_self(void) DSM_NOEXCEPT;

/* The living client with that name; 0: ENOENT. Linear in the clients. */
dsm_id dsm_lookup(const char* name) DSM_NOEXCEPT;
/* The same, waiting up to `timeout_ms` (-1: for ever) until there is one. 0: ETIMEDOUT (ENOENT: it was not to wait); EINTR: a handler
 * ran; EINVAL: no name. It looks every 20 us at first and every 2.5 ms in the end. */
dsm_id dsm_lookup_wait(const char* name, int timeout_ms) DSM_NOEXCEPT;

/* As malloc, calloc, realloc and aligned_alloc, for a client: null with ENOTCONN elsewhere. Memory
 * from dsm_malloc and from malloc is the same. dsm_realloc of an object that others refer to gives
 * a copy and drops this process's reference; EINVAL: it has none. */
void* dsm_malloc(size_t size) DSM_NOEXCEPT;
void* dsm_calloc(size_t count, size_t size) DSM_NOEXCEPT;
void* dsm_realloc(void* object, size_t size) DSM_NOEXCEPT;
void* dsm_aligned_alloc(size_t alignment, size_t size) DSM_NOEXCEPT;

/* Drops one of this process's references to an object of its own or one it received; the memory
 * goes with the last one. null: nothing. free() does the same. EINVAL: it has none. */
int dsm_free(void* object) DSM_NOEXCEPT;
/* One more reference for this process, which needs a dsm_free more. EINVAL, EXDEV as dsm_send. */
int dsm_ref(void* object) DSM_NOEXCEPT;
/* The same as dsm_free. */
int dsm_unref(void* object) DSM_NOEXCEPT;
/* Bytes that may be used; 0: no object of this process's and none it has received. */
size_t dsm_usable_size(void* object) DSM_NOEXCEPT;
/* References there are now, of all clients and messages of this node; each other node that has one,
 * and each message to one, counts once. 0: it was never sent. For tests. */
size_t dsm_references(void* object) DSM_NOEXCEPT;

/* Puts a reference to the object into the mailbox of `to`. EINVAL: not the start of a live object
 * that this process allocated or received; ESRCH: no such client, or it is dead or has not called
 * dsm_attach; EAGAIN: its mailbox is full: it has 512 messages, or such about as much memory as it takes
 * (dsm_mailbox_limit); EXDEV: the object lies in memory that a fork made private. */
int dsm_send(dsm_id to, void* object) DSM_NOEXCEPT;
/* The same, waiting for room up to `timeout_ms` (-1: for ever). ETIMEDOUT; EINTR: a handler ran. What cannot be sent at all
 * is told at once. */
int dsm_send_wait(dsm_id to, void* object, int timeout_ms) DSM_NOEXCEPT;

/* The oldest message from `from`, or from anybody; null: errno. `timeout_ms` 0: do not wait
 * (EAGAIN); -1: for ever; ETIMEDOUT. EINTR: a handler ran. ESRCH: `from` is dead and there is no
 * message of it. ENOMSG: there may be an event (DSM_END_WAITS). `info` may be null. Of a group that has no root at that moment the address of the
 * group itself is returned, with size 0: dsm_group_root says when there is one. */
void* dsm_recv(dsm_id from, int timeout_ms, struct dsm_info* info) DSM_NOEXCEPT;

/* What a sender may say of a message; zeroes: nothing. */
struct dsm_label {
    uint64_t tag;      /* what it is about; the two agree */
    uint64_t type;     /* what the object is: dsm_type of its name; 0: not said */
    uint32_t version;  /* of that type */
    uint32_t reserved; /* 0 */
};

/* The sender's reference goes with the message: dsm_send and dsm_free in one. */
#define DSM_DROP 1u

/* The most general send. `label` may be null. `timeout_ms` as for dsm_recv: 0: do not wait for room (EAGAIN), -1: for ever,
 * ETIMEDOUT. `flags`: 0 or DSM_DROP, then the object is the sender's no more if this returned 0, and is as it was if
 * not. What cannot be sent at all is told at once, whether there is room or not. Errors as of dsm_send_wait; EINVAL: a
 * flag that is none. */
int dsm_send_message(dsm_id to, void* object, const struct dsm_label* label, int timeout_ms,
                     unsigned flags) DSM_NOEXCEPT;

/* What came, with its label. Later versions add fields at the end. */
struct dsm_message {
    dsm_id sender; /* may be dead by now */
    size_t size;
    dsm_group* group;
    uint64_t tag;
    uint64_t type;
    uint32_t version;
    uint32_t reserved;
};

/* dsm_recv that fills in what fits into `size` bytes (sizeof *message); what this library does not know of becomes 0. EINVAL,
 * and no message is taken: `size` is more than a page. */
void* dsm_recv_message(dsm_id from, int timeout_ms, struct dsm_message* message,
                       size_t size) DSM_NOEXCEPT;

/* Several messages in one call, with the cost of one look, one lock and one wake for as many as go into an operation. How many were sent
 * or received, in order, at least one; -1: errno, as of dsm_send_message and dsm_recv_message, which says why not even the first. They wait
 * as those do, but for the first alone: what does not go, or has not come, without a wait is the next call's. A process that is
 * killed meanwhile has sent some of them, each as a whole. EINVAL, too: no array, or a count of 0. `label` (null: none) is said of each, and
 * with DSM_DROP the references of those that were sent are gone. `messages` may be null; its elements have `size` bytes.
 * ENOMEM, as of dsm_recv_message: the memory of none could be made accessible; of one that cannot the message is gone. */
int dsm_send_many(dsm_id to, void* const* objects, size_t count, const struct dsm_label* label,
                  int timeout_ms, unsigned flags) DSM_NOEXCEPT;
int dsm_recv_many(dsm_id from, int timeout_ms, void** objects, struct dsm_message* messages,
                  size_t size, size_t count) DSM_NOEXCEPT;

/* dsm_free of each, in this order, with the cost of one lock for as many as go into an operation (null is passed over). How many are freed: the
 * first that is not the caller's ends it; -1, EINVAL: that is the first of all, there is no array, or the count is 0. */
int dsm_free_many(void* const* objects, size_t count) DSM_NOEXCEPT;

/* What others made is read-only to this process from here on (0: it can be written again): a stray store into what it has received ends it by
 * SIGSEGV, instead of changing what others read. Its own objects, also those that come back, can be written, and so can a group whose
 * writer it becomes (dsm_group_take_over), from its next call on it. dsm_group_quiesce has no effect then: a reader notes in the group when
 * it looks. EBUSY: it has received something already that it may write. Of the process, not of a thread, until it forks or ends. Costs nothing a message:
 * a mapping more for each run of its own chunks. */
int dsm_read_only(int yes) DSM_NOEXCEPT;

/* Whether a message is what its receiver is made for: EPROTOTYPE: its sender says that it is another type or version;
 * EMSGSIZE: it has fewer bytes. Of a message without a type the size alone counts. The reference stays the receiver's. A
 * check among friends: what a sender says need not be so. EINVAL: null. Async-signal-safe. */
int dsm_expect(const struct dsm_message* message, uint64_t type, uint32_t version,
               size_t bytes) DSM_NOEXCEPT;

/* A hash (FNV-1a, 64 bits) of a type's name, never 0 but for null; the same in C and C++. Async-signal-safe; any
 * process. */
uint64_t dsm_type(const char* name) DSM_NOEXCEPT;

/* Mailboxes. A process has one, to which its id leads, and may open further ones, each with an id of its own: one a thread, say, so
 * that what is for one thread does not come to another. Where a function takes one of the process's own, DSM_ANY is the first. EINVAL
 * of all: it is none of the process's, or closed. Forked children have none of them. */

/* Opens one; 0: ENOTCONN, ENOMEM; ENOSPC: the context has no more of them (7 a client, shared by all). Takes 16 KiB. */
dsm_id dsm_mailbox_open(void) DSM_NOEXCEPT;
/* Closes it: messages in it are dropped, who sends to it is told ESRCH, threads that wait there are. EINVAL, too: it is the
 * process's first (dsm_detach). */
int dsm_mailbox_close(dsm_id mailbox) DSM_NOEXCEPT;
/* How much memory messages in it are about at most, beside its 512 messages: a sender of more waits, or is told EAGAIN, as with any full
 * mailbox. Objects count with their size in whole KiB, each time that they are sent; groups with their first block. One that is
 * larger has room when no other counts. 0: no limit. As long as nothing is said it is a quarter of the pool: who produces without end fills a
 * mailbox, not the pool. Messages of other nodes do not count. */
int dsm_mailbox_limit(dsm_id mailbox, size_t bytes) DSM_NOEXCEPT;
/* dsm_send_message, and answers are to come to that mailbox: it is the message's sender. */
int dsm_send_as(dsm_id mailbox, dsm_id to, void* object, const struct dsm_label* label,
                int timeout_ms, unsigned flags) DSM_NOEXCEPT;
/* dsm_recv_message, of what comes to that mailbox. */
void* dsm_recv_at(dsm_id mailbox, dsm_id from, int timeout_ms, struct dsm_message* message,
                  size_t size) DSM_NOEXCEPT;

/* Calls. A message whose sender waits for the answer to it, and nobody else gets it: any number of threads may call at once.
 *
 *     p = dsm_call(server, question, NULL, 1000, DSM_DROP, NULL, 0);    and there, in any number of threads:
 *     while (dsm_serve(DSM_ANY, handler, NULL, -1) == 0) continue;
 *
 * Sends the object and returns what is answered, with a reference. `timeout_ms` is for both; -1: for ever. null: ESRCH: there is no
 * such client, or it is dead, or ended before it answered; ETIMEDOUT; EINTR: a handler ran; else as dsm_send_message. An answer that
 * comes after that is dropped, and who sends it is told ESRCH. With DSM_DROP the reference is the caller's no more if the object was
 * sent, whatever became of the answer. `answer` may be null. 0 as time: it is sent if there is room, and an answer does not come. Cost: two
 * messages; the first call of a thread that calls while as many others do opens a mailbox. */
void* dsm_call(dsm_id to, void* object, const struct dsm_label* label, int timeout_ms,
               unsigned flags, struct dsm_message* answer, size_t size) DSM_NOEXCEPT;
/* Answers a call: sends to where the message came from. `label` null, or without a tag: the tag is the call's. ESRCH: who called is
 * dead, or has given up. Whoever holds the message may answer, in any process and thread. Else as dsm_send_message. */
int dsm_answer(const struct dsm_message* call, void* object, const struct dsm_label* label,
               int timeout_ms, unsigned flags) DSM_NOEXCEPT;
/* What answers a call: gets the message and its object; returns what is to be answered, of which a reference goes with it (the
 * question itself, if it likes), or null: nothing, for it has answered, or will. */
typedef void* (*dsm_handler)(const struct dsm_message* call, void* object, void* context);
/* Receives one message at a mailbox and answers it with what the handler returns; the question's reference is dropped afterwards. Errors as
 * dsm_recv: none of the handler or the answer. */
int dsm_serve(dsm_id mailbox, dsm_handler handler, void* context, int timeout_ms) DSM_NOEXCEPT;

/* Peers that come and go. A process that asks for it is told who takes part, and then who comes, leaves, dies or takes another name, in this
 * node and in others; not of itself. */
#define DSM_PEER_CAME 1u /* it takes part (dsm_attach) */
#define DSM_PEER_LEFT 2u /* it takes part no more (dsm_detach); its process lived on */
#define DSM_PEER_DIED \
    3u /* its process has ended, however, or its node has; what it held is being dropped */
#define DSM_PEER_RENAMED 4u /* it has another name: dsm_attach again */

/* Later versions add fields at the end. */
struct dsm_event {
    uint32_t kind;   /* DSM_PEER_... */
    uint32_t missed; /* others that came and went in its place meanwhile; 0 as a rule */
    dsm_id peer;
    char name[DSM_NAME_MAX]; /* its name, of who has gone the one that was told; empty: none */
};

/* dsm_next_event tells. */
#define DSM_WATCH 1u
/* With that: who waits for a message in the first mailbox, or comes to, gets none but ENOMSG when there may be an event. */
#define DSM_END_WAITS 2u

/* From here on dsm_next_event tells: first of each that is there that it came, then what changes. Again: all that are there are told anew. 0: no
 * more. Of the process, not of a thread, until it forks or ends; what it has not asked for when it detaches is told when it takes part again. Costs who
 * comes and goes a look at each client. EINVAL: other flags. */
int dsm_watch_peers(unsigned flags) DSM_NOEXCEPT;
/* The next event, in what fits into `size` bytes (sizeof *event); those of who has gone before those of who has come. It is told once, to one
 * thread. `timeout_ms` as for dsm_recv. No event is lost, however late it is asked for; of those who came and went in between the end of the last one
 * is told (of another node's it is not), and `missed` counts the others. EAGAIN: there is none; ETIMEDOUT; EINTR: a handler ran; EINVAL: nobody watches
 * (dsm_watch_peers), null, or `size` is more than a page. To wait for messages, too: dsm_fd. */
int dsm_next_event(struct dsm_event* event, size_t size, int timeout_ms) DSM_NOEXCEPT;

/* Topics. What is published in one goes to all who have subscribed to it, whatever their number, by one operation, and each takes it when it likes, with a
 * reference of its own. A topic has a name, which is unique among the topics of the context (of a node: other nodes have others), and is there as
 * long as somebody has it open. The last publications are kept, with a reference each, for those who come late.
 *
 *     dsm_topic t = dsm_topic_open("prices", 0, 0);
 *     dsm_topic_publish(t, p, NULL, -1, DSM_DROP);             and elsewhere, with a t of its own:
 *     dsm_topic_subscribe(t, NULL);
 *     while ((q = dsm_topic_take(t, -1, NULL, 0, NULL)) != NULL) { ... dsm_free(q); }
 *
 * Publishing costs what a send costs. errno of all that take a topic: EINVAL: this process does not have it open so. */
typedef uint64_t dsm_topic;

/* Opens the topic with that name, which begins with that if nobody has it open. Then the last `messages` publications are kept, 512 at
 * most (0: as many), as long as they are not about more than `bytes` of memory (0: a quarter of the pool; objects count as in mailboxes):
 * the oldest goes when another one comes. Of one that is there already what was said first counts. A process may open it several times,
 * and each has a subscription of its own. 0: ENOTCONN, ENOMEM; EINVAL: the name is empty or longer than 31 bytes; ENOSPC: the context has no
 * more of them (128 topics; 7 a client are open, shared by all, and 2,048 at most). Linear in the topics. */
dsm_topic dsm_topic_open(const char* name, unsigned messages, size_t bytes) DSM_NOEXCEPT;

/* What happens when a subscriber is as far behind as it may be, or as what is kept permits. */
#define DSM_BLOCK 0u       /* who publishes waits for it */
#define DSM_DROP_OLDEST 1u /* it misses the oldest that it has not taken */
#define DSM_FAIL 2u        /* who publishes is told EAGAIN at once, however long he would wait */

/* How somebody subscribes; zeroes: from now on, DSM_BLOCK, and behind by all that is kept. */
struct dsm_subscription {
    uint32_t behind;   /* DSM_BLOCK, DSM_DROP_OLDEST, DSM_FAIL */
    uint32_t history;  /* so many of the last publications are taken first, if they are kept */
    uint32_t messages; /* that it may be behind; 0: as many as are kept */
    uint32_t reserved; /* 0 */
    uint64_t
        bytes; /* of memory that they are about; 0: as much as is kept. One that is larger is waited for alone */
};

/* Takes part in what is published from here on, and in as much of what was before as `how` says (null: zeroes). EEXIST: it has
 * subscribed already; EINVAL, too: `behind` is none of these. */
int dsm_topic_subscribe(dsm_topic topic, const struct dsm_subscription* how) DSM_NOEXCEPT;

/* Publishes the object to all who have subscribed, itself among them. Arguments and errno as of dsm_send_message: it waits until no subscriber with
 * DSM_BLOCK is too far behind; EAGAIN: one is (`timeout_ms` 0), or one with DSM_FAIL is. What was published by who has died stays. */
int dsm_topic_publish(dsm_topic topic, void* object, const struct dsm_label* label, int timeout_ms,
                      unsigned flags) DSM_NOEXCEPT;

/* The next publication, in the order in which all get them, with a reference to be dropped by dsm_free; null: errno, as of dsm_recv_message. `missed` (null: not said):
 * how many before it this subscriber has missed since the last one, which is 0 but with DSM_DROP_OLDEST. Threads that take from one
 * subscription share what there is. EINVAL, too: it has not subscribed. dsm_fd does not tell of publications. */
void* dsm_topic_take(dsm_topic topic, int timeout_ms, struct dsm_message* message, size_t size,
                     uint64_t* missed) DSM_NOEXCEPT;

/* Takes part no more: nobody waits for it. It stays open. EINVAL, too: it has not subscribed. */
int dsm_topic_leave(dsm_topic topic) DSM_NOEXCEPT;

/* Has it open no more, and leaves it; threads that wait in it are told EINVAL. What is kept goes with the last one who has it open, whose end does
 * the same, as does dsm_detach. */
int dsm_topic_close(dsm_topic topic) DSM_NOEXCEPT;

/* A descriptor for poll, select and epoll, the same one at every call: readable while a message may
 * be waiting for this process, in its first mailbox, or an event (dsm_watch_peers). It becomes readable when one comes, stays so until a
 * dsm_recv or dsm_next_event finds nothing (EAGAIN, ETIMEDOUT), and is readable again with the next message or event; nothing is missed
 * between the two, in edge-triggered loops neither. So: when it is readable, call
 * dsm_recv(DSM_ANY, 0, ...) until EAGAIN, and who watches peers dsm_next_event, too. It may be readable without a message, e.g. when another
 * thread was faster or a client has died. Who receives from one peer alone while messages of others
 * wait finds it readable again and again.
 *
 * It is for waiting only: do not read, write or close it. It is closed on exec and in a forked
 * child, which makes its own after dsm_attach. The first call starts a thread (aep-dsm-fd) that
 * blocks all signals, runs no code of the program and ends with the process; it keeps the user
 * whom the process had then. -1: ENOTCONN; EMFILE, ENFILE, ENOMEM; EAGAIN: no thread can be made.
 * Cost: while it is not readable, a system call for the next sender, and two context switches until
 * the loop runs; with other nodes the thread looks for messages once a millisecond. */
int dsm_fd(void) DSM_NOEXCEPT;

/* What an errno of these functions means in their terms, a static string; "unknown error" for what
 * none of them says. Never fails; async-signal-safe. */
const char* dsm_strerror(int error) DSM_NOEXCEPT;

/* The library's version, in the form of DSM_VERSION. Never fails; async-signal-safe; for every
 * process, client or not. */
int dsm_version(void) DSM_NOEXCEPT;

/* Groups. A list, a tree, a map is many objects that point at each other and live as long as the
 * whole. They are allocated in a group, of which only the *root* is counted: whoever holds the root
 * may read and write all of it, and when the last reference to the root is dropped all of it goes.
 *
 *     dsm_group *g = dsm_group_create(0);     this process is its writer, with one reference
 *     struct list *l = dsm_group_alloc(g, sizeof *l);
 *     dsm_group_set_root(g, l);
 *     dsm_send(peer, l);                      there dsm_recv returns l, and info.group is g
 *     dsm_group_close(g);                     the peer goes on reading until its dsm_free(l)
 *
 * dsm_send, dsm_ref, dsm_free, dsm_references and free take the root, or the group's address; other
 * objects of a group are EINVAL to them. One client is the *writer*: it alone may allocate and free
 * in the group. It always holds a reference; when it drops its last one or dies, the group has no
 * writer any more, and can be read until its readers have gone, or be taken over by one of them.
 *
 * What the writer frees while others have references stays as it is until they have dropped them, or have said by
 * dsm_group_quiesce that they have stopped looking. A reader looks like this, as often as it likes:
 *
 *     struct map *m = dsm_group_root(g);      begins: all that is reached from here stays as it is
 *     ... read ...
 *     dsm_group_quiesce(g);                   ends: what was reached is used no more
 *
 * dsm_group_root also makes memory accessible that the group has got since.
 *
 * errno of all that take a group: EINVAL: it is none, or this process has no reference to it. Of
 * those that are the writer's alone: EPERM: another client is the writer, or nobody; EXDEV: a fork
 * made some of the group private to this process. Threads of one process take turns. */

/* A new group without a root. `hint`: bytes that it is going to have, or 0: it starts with 8 KiB
 * and grows by doubling. It lies in this process's heap. EXDEV: that is private since a fork. */
dsm_group* dsm_group_create(size_t hint) DSM_NOEXCEPT;

/* An object of the group, at a multiple of 16 or of `alignment` (a power of two, else EINVAL); the
 * writer's. Contents are arbitrary. Some 20 ns; more memory is taken from this process's heap, and if readers that say when
 * they look keep half of the group, they are given up to 20 ms to end their looks before.
 * ENOMEM: there is none, or the group has grown 64 times. */
void* dsm_group_alloc(dsm_group* group, size_t size) DSM_NOEXCEPT;
void* dsm_group_aligned_alloc(dsm_group* group, size_t alignment, size_t size) DSM_NOEXCEPT;

/* Frees one object; null: nothing; the writer's. Its memory is used again, at once if nobody else
 * has a reference to the group, else when nobody can be looking at it any more: it is to be unlinked before. EINVAL: no live object of
 * the group begins there; EBUSY: it is the root. */
int dsm_group_free(dsm_group* group, void* object) DSM_NOEXCEPT;

/* The object by which the group is known from now on; null: none; the writer's. EINVAL: no live
 * object of the group begins there. EBUSY: others have references, by the root there is: let the
 * root be an object that stays, with a pointer to what changes. */
int dsm_group_set_root(dsm_group* group, void* object) DSM_NOEXCEPT;

/* The root; null: ENOENT: it has none. All of the group is accessible afterwards. Some 10 ns. */
void* dsm_group_root(dsm_group* group) DSM_NOEXCEPT;

/* The group whose root that is (or whose address); null: EINVAL. */
dsm_group* dsm_group_of(void* root) DSM_NOEXCEPT;

/* Bytes of memory that the group takes, as far as this node knows; 0: EINVAL. */
size_t dsm_group_bytes(dsm_group* group) DSM_NOEXCEPT;

/* What is known of a group. Later versions add fields at the end. */
struct dsm_group_info {
    uint64_t bytes;      /* of memory that it takes, as far as this node knows */
    uint64_t deferred;   /* of these, freed but kept for readers that may be looking */
    uint64_t references; /* of all clients and messages, as dsm_references */
    dsm_id writer;       /* 0: nobody, or a client of another node */
};

/* Fills in what fits into `size` bytes (sizeof *info); what this library does not know of becomes 0. EINVAL: `size` is more
 * than a page. Some 20 ns. */
int dsm_group_inspect(dsm_group* group, struct dsm_group_info* info, size_t size) DSM_NOEXCEPT;

/* No thread of this process uses pointers into the group any more, but to its root, until the next dsm_group_root of
 * it or the next dsm_recv that gives it: what the writer frees meanwhile, and what it freed before this process looked
 * again, is used again although the process holds the group. Who never calls it is taken to be looking all the
 * time. 64 readers a group; more, those of other nodes, and messages count as looking. For who writes the group:
 * nothing. Some 10 ns, and the next dsm_group_root as much more. */
int dsm_group_quiesce(dsm_group* group) DSM_NOEXCEPT;

/* Makes this process the writer of a group that has none since its writer died or closed it. EPERM: another client is the
 * writer (a dead one until it has been recovered, which takes milliseconds); EXDEV: the group is another node's.
 * What the former writer was changing when it died is as it left it: a structure that readers follow while it changes is whole
 * after every store, any other says itself whether it is. What it had allocated and not linked stays allocated.
 * Linear in the group's blocks. */
int dsm_group_take_over(dsm_group* group) DSM_NOEXCEPT;

/* Makes `to` the writer, who must have a reference (else EINVAL); the writer's. ESRCH: no such
 * client, or it is dead; EXDEV: it is one of another node. This process keeps its references. */
int dsm_group_hand_over(dsm_group* group, dsm_id to) DSM_NOEXCEPT;

/* Gives up the right to write and one reference; the writer's. The group stays while others (or
 * further references of this process) hold it, and is nobody's to write. */
int dsm_group_close(dsm_group* group) DSM_NOEXCEPT;

#ifdef __cplusplus
}
#endif
#undef DSM_NOEXCEPT
#endif
