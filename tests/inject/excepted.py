"""Call sites that no case of inject.py lets fail, each with its reason. Read and kept by hand; coverage.py holds it to be
complete and without an entry too many.
"""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Excepted:
    """A site in `file` (empty: in any) whose line, or one of the two after it, has `text`."""
    file: str
    text: str
    reason: str

    def covers(self, site, line):
        return site.startswith(self.file) and self.text in line


def because(reason, *sites):
    """Entries of one reason; each of `sites` is a file, then what the lines in it have."""
    return [Excepted(file, text, reason) for file, *texts in sites for text in texts]


# The first that fits counts.
EXCEPTIONS = (
    *because("the process is about to end by SIGABRT",
             ("shim/sys/message.cpp", "sys::tgkill")),
    *because("its failure is the answer, which Sharing.the_name_of_who_has_just_died_is_waited_for and Sharing.names have both ways",
             ("shim/sharing/sharing.cpp", "sys::tgkill(pid, pid, 0)")),
    *because("the kernel says no error to a sound call of these",
             ("", "sys::getpid()", "sys::gettid()", "sys::geteuid()", "__NR_clock_gettime", "__NR_rt_sigprocmask",
              "__NR_rt_sigaction, signal",
              "__NR_brk, 0"),
             ("shim/driver/slow_path.cpp", "__NR_sigaltstack, 0")),
    *because("a wake-up has no outcome",
             ("shim/backing/populate.cpp", "FUTEX_WAKE_OP"),
             ("", "FUTEX_WAKE")),
    *because("the message of another failure; what cannot be written is lost",
             ("shim/sys/message.cpp", "sys::write(2")),

    # ---- after a failure: a run lets one call fail
    *because("undoes what a call before it has failed for; its own outcome is not looked at",
             ("shim/backing/anonymous_backing.cpp", "sys::munmap(address, bytes); return Mapped::no_memory"),
             ("shim/backing/metadata.cpp", "sys::munmap(part.address"),
             ("shim/backing/node_identity.cpp", "sys::munmap("),
             ("shim/backing/pool_attach.cpp", "sys::munmap(reinterpret_cast<uptr>(pool.here)",
              "sys::munmap(pool.private_view"),
             ("shim/backing/pool_file.cpp", "sys::close(fd); return -1", "sys::close(fd); return -ESTALE",
              "sys::munmap(begin, bytes); return advised", "sys::munmap(base, tables_bytes(file))"),
             ("shim/context/context_file.cpp", "sys::munmap(",
              "sys::mprotect(stack_of_slot(slot), STACK_BYTES, PROT_NONE)",
              "sys::mprotect(log_of_slot(slot), LOG_STRIDE, PROT_NONE)"),
             ("shim/context/context_views.cpp", "sys::munmap(reinterpret_cast<uptr>(private_arrays)",
              "if (domain_view != 0) sys::munmap"),
             ("shim/context/daemon_link.cpp", "sys::close(fds[i])"),
             ("shim/context/join.cpp", "sys::munmap(ranges_"),
             ("shim/context/slots.cpp", "sys::madvise(stack_of_slot(slot), STACK_BYTES, MADV_REMOVE)",
              "sys::madvise(log_of_slot(slot), LOG_STRIDE, MADV_REMOVE)"),
             ("shim/sharing/share_fd.cpp", "sys::close(event_fd); event_fd = -1; level"),
             ("shim/sys/raw_thread.cpp", "sys::munmap(base, THREAD_BYTES)"),
             ("node/heap_verifier.cpp", "kill(pid, SIGKILL)")),
    *because("on kernels or file systems that lack what comes first",
             ("shim/backing/pool_create.cpp", 'sys::linkat(fd, ""', "sys::getrandom(&random", "sys::open(temporary",
              "__NR_renameat2", "sys::linkat(AT_FDCWD, temporary", "sys::unlink(temporary)"),
             ("node/image_copy.cpp", "errno == EINVAL ? memfd_create")),

    # ---- what this machine does not have
    *because("on a DAX device or file alone: tests/vm has both, tests/sharing/dax_files.py what is told to be a file",
             ("shim/backing/pool_device.cpp", ""),
             ("shim/backing/pool_create.cpp", "sys::fallocate(fd, 0, 0, bytes)"),
             ("node/pool_care.cpp", "realpath(link.c_str()", "fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW)); return fd"),
             ("shim/backing/pool_clean.cpp", "")),
    *because("on hugetlbfs alone: tests/unit/pool_root.cpp, where the machine has some",
             ("shim/backing/freeze.cpp", "sys::mincore(from, page, present)", "? sys::mmap(0, bytes", "sys::munmap(staged",
              "sys::mremap(from, bytes_of(run)")),

    # ---- situations that other tests have, which need more than one program
    *because("aep pool grow: tests/unit/pool_grow.cpp has what it refuses, and those that die at it",
             ("shim/backing/pool_grow.cpp", "")),
    *because("a pool that has grown just then; refused it counts as cut: tests/unit/pool_grow.cpp",
             ("shim/backing/pool_file.cpp", "st.st_size) > file_bytes")),
    *because("a wait for another node; refused, its naps are longer: tests/sharing/nodes.py",
             ("shim/sharing/share_wait.cpp", "PR_GET_TIMERSLACK", "PR_SET_TIMERSLACK")),
    *because("a sleeper on shared memory at a fork: conformance.fork_waiters",
             ("shim/backing/futex_waiters.cpp", "__NR_mremap", "sys::munmap(second")),
    *because("conformance.memory_return makes it fail by too many mappings",
             ("shim/backing/anonymous_backing.cpp", "if (sys::failed(sys::munmap(address, bytes)))")),
    *because("in the completer: tests/provider",
             ("shim/context/context_file.cpp", "sys::mmap(SHADOW_ENTRY", "sys::mprotect(SHADOW_ENTRY")),
    *because("provider kernel: tests/node/kernel.py",
             ("shim/context/context_file.cpp", "sys::mincore(CONTEXT_BASE")),
    *because("pointers that libc's own malloc gave: conformance.load_early",
             ("shim/driver/libc_heap.cpp", "")),
    *because("an operation that a kill left open: tests/undo",
             ("node/slot_undo.cpp", "fallocate(")),
    *because("chunks below those of other processes",
             ("shim/backing/metadata.cpp", "sys::mprotect(part.address")),
    *because("a client of which a thread is left in another process; not known is not apart",
             ("node/living_threads.cpp", "SYS_kcmp")),
    *because("the socket has a folder of its own in the user's usual place alone, out of which tests keep",
             ("node/leftovers.cpp", "if (paths.own_runtime) rmdir")),
    *because("a daemon that sends more descriptors than it should",
             ("shim/context/daemon_link.cpp", "sys::close(received)")),

    # ---- of which nothing comes
    *because("another thread was faster",
             ("shim/watch/samples.cpp", "sys::munmap(reinterpret_cast<uptr>(mine)")),
    *because("a pause; cut short it is looked again",
             ("shim/backing/pool_backing.cpp", "__NR_nanosleep"),
             ("node/membership.cpp", "poll(nullptr, 0")),
    *because("purges after a fork: false whatever it says",
             ("shim/backing/pool_backing.cpp", "MADV_DONTNEED)) && anonymous")),
    *because("in a child of a fork; the same close as at the start",
             ("shim/backing/pool_backing.cpp", "sys::close(fd); if (sys::failed(mapped))")),
    *because("the compiler makes it one instruction with another close, which is met",
             ("shim/backing/pool_create.cpp", "sys::close(fd); return created")),
    *because("the verifier's child keeps descriptors that it does not use",
             ("node/heap_verifier.cpp", "SYS_close_range")),
)
