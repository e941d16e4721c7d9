/* SPDX-License-Identifier: GPL-2.0 WITH Linux-syscall-note */
/*
 * Atomic execution protection: sections of user code that complete before
 * their thread is killed or stopped. See Documentation/userspace-api/aep.rst.
 */
#ifndef _UAPI_LINUX_AEP_H
#define _UAPI_LINUX_AEP_H

/* The context: protected text in its first GiB, shared data above. */
#define AEP_BASE		0x400000000000UL
#define AEP_SIZE		(1UL << 39)
#define AEP_TEXT_SIZE		(1UL << 30)

/* The page through which a thread enters the text and to which it returns. */
#define AEP_SHADOW		(AEP_BASE - 0x10000UL)
#define AEP_SHADOW_SIZE		4096UL

/* Data handed out by AEP_BRK and AEP_MMAP_RW_NX, and room for AEP_MAP_POOL. */
#define AEP_BRK_BASE		(AEP_BASE + (1UL << 30))
#define AEP_BRK_SIZE		(63UL << 30)
#define AEP_MMAP_BASE		(AEP_BASE + (64UL << 30))
#define AEP_MMAP_SIZE		(64UL << 30)
#define AEP_POOL_BASE		(AEP_BASE + (128UL << 30))
#define AEP_POOL_SIZE		(384UL << 30)

/* long aep_ops(unsigned int op, ...) */
enum aep_op {
	/*
	 * For an administrator (CAP_SYS_ADMIN), from anywhere.
	 */

	/* (unsigned long limit, unsigned long flags = 0): a new context's descriptor */
	AEP_INIT,
	/* (int pidfd): a new descriptor of the context that a process is a member of */
	AEP_CONTEXT,
	/* (int context, int pidfd): makes a process a member */
	AEP_JOIN,
	/* (int context, int file, void *addr, size_t len, off_t offset): text, or
	 * with addr == AEP_SHADOW and len == AEP_SHADOW_SIZE the shadow entry
	 */
	AEP_MMAP_EXEC,
	/* (int context, int file, void *addr, size_t len, off_t offset): a pool, read-write */
	AEP_MAP_POOL,

	/*
	 * For a member, from its context's text only.
	 */

	/* (void *end): as brk(2); it does not shrink */
	AEP_BRK,
	/* (size_t len): the address of new zeroed memory, read-write, not executable */
	AEP_MMAP_RW_NX,
};

#endif /* _UAPI_LINUX_AEP_H */
