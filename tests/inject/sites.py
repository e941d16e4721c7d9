"""Which source lines of the product make system calls: read from the programs, not from the sources.

A site is the line that calls the kernel: that of a `syscall` instruction, past the wrappers of shim/sys/syscall.hpp, or of
a call of a libc function that is one. Used by coverage.py. Crash rule: reads only.
"""

import os
import re
import subprocess

# Functions of libc, libstdc++ and libbpf that make a system call which can fail; each is a site where it is called.
CALLS = set("""
accept4 access bind chdir chmod close dup2 epoll_create1 epoll_ctl epoll_wait execve fallocate fcntl flock fork fstat
fstatfs fsync ftruncate getcwd getdents64 getrandom getsockopt kill linkat listen lstat madvise memfd_create mincore mkdir
mmap mprotect mremap munmap open openat pipe2 poll ppoll prctl pread pwrite process_vm_readv read readlink realpath recv
recvmsg rename rmdir send sendmsg sendto setrlimit setsockopt signalfd socket socketpair stat statfs statx symlink syscall
timerfd_create timerfd_settime unlink waitpid write eventfd pidfd_open posix_fallocate opendir readdir
""".split())
LIBSTDCXX = re.compile(r"_ZNSt10filesystem\d+(status|symlink_status|remove|remove_all|create_director|read_symlink|space"
                       r"|file_size|canonical)|_ZNSt1\dbasic_(filebuf|ifstream|ofstream)\w*(4open|C1EPKc|C1ERKNSt7)")
WRAPPERS = ("shim/sys/syscall.hpp",)
PROJECT = os.environ.get("AEP_TEST_PROJECT",
                         os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))


def _addresses(program):
    """The addresses of instructions that enter the kernel or a function that does."""
    text = subprocess.check_output(["objdump", "-d", "--no-show-raw-insn", program], text=True)
    found = []
    for line in text.splitlines():
        match = re.match(r"\s+([0-9a-f]+):\s+(syscall|(?:call|jmp)\s+[0-9a-f]+ <(\w+)@plt>)", line)
        if match and (match[2] == "syscall" or match[3] in CALLS or LIBSTDCXX.match(match[3])):
            found.append(int(match[1], 16))
    return found


def _in_project(file):
    """The path below the project's root; what is not the project's as it is."""
    match = re.search(r"(?:^|/)((?:aep-lib|dsm-core|node|preload|shim|tools)/.*)", os.path.normpath(file))
    return match[1] if match else file


def lines_of(program, addresses):
    """address -> the chain of (file, line) that were inlined into each other, innermost first."""
    asked = subprocess.run(["addr2line", "-a", "-i", "-e", program], input="\n".join(map(hex, addresses)),
                           capture_output=True, text=True, check=True).stdout
    chains = {}
    chain = []
    for line in asked.splitlines():
        if line.startswith("0x"):
            chain = chains.setdefault(int(line, 16), [])
        else:
            file, _, number = line.partition(" ")[0].rpartition(":")
            chain.append((_in_project(file), int(number) if number.isdigit() else 0))
    return chains


def site(chain):
    """The first line that is not a wrapper's: "shim/backing/pool_file.cpp:88"."""
    for file, line in chain:
        if not file.endswith(WRAPPERS):
            return f"{file}:{line}"
    return "?"


def sites_in(program, folders):
    """Every site below the folders: a set of "FILE:LINE"."""
    chains = lines_of(program, _addresses(program))
    return {s for s in map(site, chains.values()) if s.startswith(tuple(f + "/" for f in folders))}


def sites_of(program, frames):
    """The sites of frames "NAME+0xADDRESS" that are in the program: frame -> site."""
    if not frames:
        return {}
    addresses = {frame: int(frame.rpartition("+")[2], 16) for frame in frames}
    chains = lines_of(program, sorted(set(addresses.values())))
    return {frame: site(chains.get(address, [])) for frame, address in addresses.items()}


def source_line(site):
    """The line, with those after it that belong to the call."""
    file, _, number = site.rpartition(":")
    if not os.path.exists(os.path.join(PROJECT, file)):
        return ""
    with open(os.path.join(PROJECT, file), encoding="utf-8") as source:
        lines = source.read().splitlines()
    return " ".join(line.strip() for line in lines[int(number) - 1:int(number) + 2])
