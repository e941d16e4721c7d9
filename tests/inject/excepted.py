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


# The kernel says no error to a sound call of these.
NEVER = "never fails"
# Run when something else has failed, and their outcome changes nothing: the descriptor or the mapping is given up.
UNDOING = "undoes what a call before it has failed for; its own outcome is not looked at"
DEVICE = "on a DAX device alone: tests/vm has one"
HUGE = "on hugetlbfs alone: tests/unit/pool_huge*.cpp, where the machine has some"
OLD = "on kernels or file systems that lack what comes first"
DYING = "the process is about to end by SIGABRT"
RELATIVE = "a path that is not absolute"
LOCK_HELD = "another daemon is there already: tests/node"

# The first that fits counts.
EXCEPTIONS = (
    Excepted("shim/sys/message.cpp", "sys::tgkill", DYING),
    Excepted("shim/backing/populate.cpp", "FUTEX_WAKE_OP", OLD),
    Excepted("", "sys::getpid()", NEVER),
    Excepted("", "sys::gettid()", NEVER),
    Excepted("", "sys::geteuid()", NEVER),
    Excepted("", "__NR_clock_gettime", NEVER),
    Excepted("", "__NR_rt_sigprocmask", NEVER),
    Excepted("", "__NR_brk, 0", NEVER),
    Excepted("", "FUTEX_WAKE", NEVER),
    Excepted("shim/sys/message.cpp", "sys::write(2", "the message of another failure; what cannot be written is lost"),
    Excepted("shim/driver/slow_path.cpp", "__NR_sigaltstack, 0", NEVER),
    # ---- after a failure
    Excepted("shim/backing/anonymous_backing.cpp", "sys::munmap(address, bytes); return Mapped::no_memory", UNDOING),
    Excepted("shim/backing/metadata.cpp", "sys::munmap(part.address", UNDOING),
    Excepted("shim/backing/node_identity.cpp", "sys::munmap(", UNDOING),
    Excepted("shim/backing/pool_attach.cpp", "sys::munmap(reinterpret_cast<uptr>(pool.here)", UNDOING),
    Excepted("shim/backing/pool_attach.cpp", "sys::munmap(pool.private_view", UNDOING),
    Excepted("shim/backing/pool_file.cpp", "sys::close(fd); return -1", UNDOING),
    Excepted("shim/backing/pool_file.cpp", "sys::close(fd); return -ESTALE", UNDOING),
    Excepted("shim/backing/pool_file.cpp", "sys::munmap(begin, bytes); return advised", UNDOING),
    Excepted("shim/backing/pool_file.cpp", "sys::munmap(base, tables_bytes(file))", UNDOING),
    Excepted("shim/context/context_file.cpp", "sys::munmap(", UNDOING),
    Excepted("shim/context/context_views.cpp", "sys::munmap(reinterpret_cast<uptr>(private_arrays)", UNDOING),
    Excepted("shim/context/context_views.cpp", "if (domain_view != 0) sys::munmap", UNDOING),
    Excepted("shim/context/daemon_link.cpp", "sys::close(fds[i])", UNDOING),
    Excepted("shim/context/daemon_link.cpp", "sys::close(received)", "a daemon that sends more descriptors than it should"),
    Excepted("shim/context/daemon_link.cpp", "sys::close(fd); return result", UNDOING),
    Excepted("shim/context/join.cpp", "sys::munmap(ranges_", UNDOING),
    Excepted("shim/sys/raw_thread.cpp", "sys::munmap(base, THREAD_BYTES)", UNDOING),
    Excepted("shim/sharing/share_fd.cpp", "sys::close(event_fd); event_fd = -1; level", UNDOING),
    Excepted("shim/context/slots.cpp", "sys::madvise(stack, STACK_BYTES, MADV_REMOVE)", UNDOING),
    Excepted("shim/context/slots.cpp", "sys::mprotect(stack, STACK_BYTES, PROT_NONE)", UNDOING),
    Excepted("node/heap_verifier.cpp", "kill(pid, SIGKILL)", UNDOING),
    Excepted("shim/backing/pool_create.cpp", "sys::close(fd); return created",
             "the compiler makes it one instruction with another close, which is met"),
    # ---- what this machine does not have
    Excepted("shim/backing/pool_device.cpp", "", DEVICE),
    Excepted("shim/backing/pool_clean.cpp", "", DEVICE),
    Excepted("shim/backing/pool_file.cpp", "sys::mmap(0, mapped, PROT_READ, MAP_SHARED", DEVICE),
    Excepted("shim/backing/pool_file.cpp", "sys::munmap(static_cast<uptr>(view), mapped)", DEVICE),
    Excepted("shim/backing/freeze.cpp", "sys::mincore(from, page, present)", HUGE),
    Excepted("shim/backing/freeze.cpp", "? sys::mmap(0, bytes", HUGE),
    Excepted("shim/backing/freeze.cpp", "sys::munmap(staged", HUGE),
    Excepted("shim/backing/freeze.cpp", "sys::mremap(from, bytes_of(run)", HUGE),
    Excepted("shim/backing/pool_create.cpp", 'sys::linkat(fd, ""', OLD),
    Excepted("shim/backing/pool_create.cpp", "sys::getrandom(&random", OLD),
    Excepted("shim/backing/pool_create.cpp", "sys::open(temporary", OLD),
    Excepted("shim/backing/pool_create.cpp", "__NR_renameat2", OLD),
    Excepted("shim/backing/pool_create.cpp", "sys::linkat(AT_FDCWD, temporary", OLD),
    Excepted("shim/backing/pool_create.cpp", "sys::unlink(temporary)", OLD),
    Excepted("node/image_copy.cpp", "errno == EINVAL ? memfd_create", OLD),
    Excepted("node/heap_verifier.cpp", "SYS_close_range", "its child keeps descriptors that it does not use"),
    # ---- situations that no scenario has
    Excepted("shim/backing/anonymous_backing.cpp", "if (sys::failed(sys::munmap(address, bytes)))",
             "conformance.memory_return makes it fail by too many mappings"),
    Excepted("shim/backing/futex_waiters.cpp", "__NR_mremap", "a sleeper on shared memory at a fork: conformance.fork_waiters"),
    Excepted("shim/backing/futex_waiters.cpp", "sys::munmap(second", "the same"),
    Excepted("shim/backing/metadata.cpp", "sys::mprotect(part.address", "chunks below those of other processes"),
    Excepted("shim/backing/pool_backing.cpp", "__NR_nanosleep", "a pause; cut short it is looked again"),
    Excepted("shim/backing/pool_backing.cpp", "MADV_DONTNEED)) && anonymous", "purges after a fork: false whatever it says"),
    Excepted("shim/backing/pool_backing.cpp", "sys::close(fd); if (sys::failed(mapped))", "in a child of a fork; the same"
             " close as at the start"),
    Excepted("shim/backing/pool_file.cpp", "sys::getcwd", RELATIVE),
    Excepted("shim/context/daemon_link.cpp", "sys::getcwd", RELATIVE),
    Excepted("shim/context/context_file.cpp", "sys::mincore(CONTEXT_BASE", "provider kernel: tests/node/kernel.py"),
    Excepted("shim/context/context_file.cpp", "sys::mmap(SHADOW_ENTRY", "in the completer: tests/provider"),
    Excepted("shim/context/context_file.cpp", "sys::mprotect(SHADOW_ENTRY", "in the completer: tests/provider"),
    Excepted("shim/driver/libc_heap.cpp", "", "pointers that libc's own malloc gave: conformance.load_early"),
    Excepted("shim/driver/zeroing.cpp", "sys::mincore(at", "not known: all of it is cleared"),
    Excepted("shim/sys/files.hpp", "", "a program that has closed 0, 1 or 2: conformance.load_hostile"),
    Excepted("node/leftovers.cpp", "", "aep down without a daemon; each step can be repeated: tests/node/commands.py"),
    Excepted("node/host.cpp", "unlink(", "removes the context; what stays is removed by the next aep down"),
    Excepted("node/host.cpp", "rmdir(", "the same"),
    Excepted("node/living_threads.cpp", "SYS_kcmp", "a client of which a thread is left in another process"),
    Excepted("node/membership.cpp", "poll(nullptr, 0", "a pause"),
    Excepted("node/node_pool.cpp", "access(path.c_str(), F_OK)", "a pool that was named and is missing"),
    Excepted("node/node_pool.cpp", "unlink(link.c_str())", "a link that leads to another pool"),
    Excepted("node/node_pool.cpp", "symlink(", "the same"),
    Excepted("node/serving_lock.cpp", "pread(fd, pid", LOCK_HELD),
    Excepted("node/slot_undo.cpp", "fallocate(", "an operation that a kill left open: tests/undo"),
)
