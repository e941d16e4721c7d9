// Purpose: keeps the registers of threads that are killed inside the image, and rings the doorbell.
// Who calls it: the kernel, at three tracepoints; loaded by ebpf_provider.cpp.
// Crash rule: runs to its end in the kernel, on the thread that it is about. An entry is only ever
//             written by the one thread that is on its slot's stack.
//
// What the kernel does (5.15 to 6.18): every thread that a signal ends passes get_signal(), which
// fires signal_deliver, also with SIGKILL for each sibling of a group exit or of an exec. At that
// moment the user's registers are still those of the interrupted instruction. A thread that ends
// without a signal (its own exit, a seccomp filter that kills the thread) passes only
// sched_process_exit. At sched_process_exec the user's registers are the new program's already.
#include <linux/bpf.h>
#include <stdbool.h>
//
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>

#include "aep-lib/provider/capture.h"

const char capture_license[] SEC("license") = "Dual MIT/GPL";

#define KERNEL __attribute__((preserve_access_index))

struct pt_regs {
    unsigned long r15, r14, r13, r12, bp, bx, r11, r10, r9, r8, ax, cx, dx, si, di;
    unsigned long ip, flags, sp;
} KERNEL;
struct ns_common {
    unsigned int inum;
} KERNEL;
struct pid_namespace {
    struct ns_common ns;
} KERNEL;
struct upid {
    int nr;
    struct pid_namespace* ns;
} KERNEL;
struct pid {
    unsigned int level;
    struct upid numbers[1];
} KERNEL;
typedef struct {
    int counter;
} KERNEL atomic_t;
struct signal_struct {
    atomic_t live;
    unsigned int flags;
    struct pid* pids[4];
} KERNEL;
struct task_struct {
    unsigned int flags;
    struct signal_struct* signal;
} KERNEL;
struct sigaction {
    void* sa_handler;
} KERNEL;
struct k_sigaction {
    struct sigaction sa;
} KERNEL;

enum {
    PIDTYPE_OF_GROUP = 1,
    GROUP_IS_UNKILLABLE = 0x40,  // SIGNAL_UNKILLABLE: init of a pid namespace
    ENDED_BY_SIGNAL = 0x400,     // PF_SIGNALED
    KILL = 9,
    MAX_PID_LEVEL = 32,
};
#define DEFAULT_ACTION ((void*)0)
#define IGNORE_ACTION ((void*)1)
// Signals whose default action is no death: SIGCHLD, SIGCONT, SIGSTOP, SIGTSTP, SIGTTIN, SIGTTOU,
// SIGURG, SIGWINCH.
#define HARMLESS                                                                                \
    (1ull << 17 | 1ull << 18 | 1ull << 19 | 1ull << 20 | 1ull << 21 | 1ull << 22 | 1ull << 23 | \
     1ull << 28)

const volatile struct CaptureConfig config = {};

struct {
    __uint(type, BPF_MAP_TYPE_ARRAY);
    __uint(map_flags, BPF_F_MMAPABLE);
    __uint(max_entries, 1);  // max_slots
    __type(key, __u32);
    __type(value, struct CaptureEntry);
} captures SEC(".maps");

// Watched processes: id in the daemon's pid namespace -> client.
struct {
    __uint(type, BPF_MAP_TYPE_HASH);
    __uint(max_entries, 1);
    __type(key, __u32);
    __type(value, __u32);
} members SEC(".maps");

struct {
    __uint(type, BPF_MAP_TYPE_RINGBUF);
    __uint(max_entries, 256 * 1024);
} doorbell SEC(".maps");

// Written by the loader when everything is pinned: which build and configuration this is.
struct {
    __uint(type, BPF_MAP_TYPE_ARRAY);
    __uint(max_entries, 1);
    __type(key, __u32);
    __type(value, struct CaptureIdentity);
} identity SEC(".maps");

struct member {
    __u32 tgid;
    __u32 client;
};

/// The process as the daemon numbers it, and whether it is watched.
static bool find_member(struct task_struct* task, struct member* found) {
    __u64 pid = (__u64)BPF_CORE_READ(task, signal, pids[PIDTYPE_OF_GROUP]);
    if (pid == 0) return false;
    __u32 level = BPF_CORE_READ((struct pid*)pid, level);
    __u64 numbers = pid + bpf_core_field_offset(struct pid, numbers);
    for (__u32 i = 0; i < MAX_PID_LEVEL && i <= level; ++i) {
        struct upid* number = (struct upid*)(numbers + i * bpf_core_type_size(struct upid));
        if (BPF_CORE_READ(number, ns, ns.inum) != config.pid_space) continue;
        found->tgid = BPF_CORE_READ(number, nr);
        const __u32* client = bpf_map_lookup_elem(&members, &found->tgid);
        if (client == 0) return false;
        found->client = *client;
        return true;
    }
    return false;
}

static void ring(__u32 kind, const struct member* member, __u32 slot) {
    struct DoorbellRecord record = {kind, member->client, member->tgid, slot};
    bpf_ringbuf_output(&doorbell, &record, sizeof record, 0);
}

/// Keeps the current thread's registers if it is inside the image on a slot's stack.
static void capture(struct task_struct* task, __u32 kind, int signal) {
    struct pt_regs* regs = (struct pt_regs*)bpf_task_pt_regs(task);
    __u64 ip = regs->ip, sp = regs->sp;
    if (ip < config.text_begin || ip >= config.text_end || sp < config.stacks) return;
    __u64 number = (sp - config.stacks) / config.stack_stride;
    if (number >= config.max_slots) return;
    __u32 slot = number;
    struct member member;
    if (!find_member(task, &member)) return;
    struct CaptureEntry* entry = bpf_map_lookup_elem(&captures, &slot);
    if (entry == 0) return;

    __u32 sequence = 0;
    const void* at = (void*)(config.slots + number * config.slot_stride + config.sequence_at);
    long unread = bpf_probe_read_user(&sequence, sizeof sequence, at);

    entry->kind = CAPTURE_NONE;
    barrier();
    entry->sequence_known = unread == 0;
    entry->sequence = sequence;
    entry->client = member.client;
    entry->tgid = member.tgid;
    entry->tid = (__u32)bpf_get_current_pid_tgid();
    entry->signal = signal;
    entry->gone_on = 0;
    struct Registers* to = &entry->registers;
    to->r15 = regs->r15;
    to->r14 = regs->r14;
    to->r13 = regs->r13;
    to->r12 = regs->r12;
    to->rbp = regs->bp;
    to->rbx = regs->bx;
    to->r11 = regs->r11;
    to->r10 = regs->r10;
    to->r9 = regs->r9;
    to->r8 = regs->r8;
    to->rax = regs->ax;
    to->rcx = regs->cx;
    to->rdx = regs->dx;
    to->rsi = regs->si;
    to->rdi = regs->di;
    to->rip = ip;
    to->rflags = regs->flags;
    to->rsp = sp;
    barrier();
    entry->kind = kind;
    if (kind == CAPTURE_FATAL) ring(DOORBELL_CAPTURED, &member, slot);
}

static bool default_is_death(struct task_struct* task, int signal) {
    if (signal == KILL) return true;
    if (signal < 64 && (HARMLESS >> signal & 1) != 0) return false;
    return (task->signal->flags & GROUP_IS_UNKILLABLE) == 0;
}

SEC("tp_btf/signal_deliver")
int BPF_PROG(on_signal, int signal, void* info, struct k_sigaction* action) {
    struct task_struct* task = bpf_get_current_task_btf();
    void* handler = action->sa.sa_handler;
    if (handler == IGNORE_ACTION) return 0;
    if (handler != DEFAULT_ACTION)
        capture(task, CAPTURE_HANDLER, signal);
    else if (default_is_death(task, signal))
        capture(task, CAPTURE_FATAL, signal);
    return 0;
}

SEC("tp_btf/sched_process_exit")
int BPF_PROG(on_exit, struct task_struct* task) {
    // Ended by a signal: captured there; and its operation may have been completed since.
    if ((task->flags & ENDED_BY_SIGNAL) == 0) capture(task, CAPTURE_FATAL, 0);
    struct member member;
    if (task->signal->live.counter == 0 && find_member(task, &member))
        ring(DOORBELL_EXITED, &member, 0);
    return 0;
}

SEC("tp_btf/sched_process_exec")
int BPF_PROG(on_exec, struct task_struct* task) {
    struct member member;
    if (find_member(task, &member)) ring(DOORBELL_EXECED, &member, 0);
    return 0;
}
