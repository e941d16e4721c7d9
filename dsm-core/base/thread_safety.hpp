// Purpose: says to clang which lock guards what, and which functions take, need or give it up; ci/clang.py
//          has that checked (-Wthread-safety).
// Who calls it: the classes of locks, and whatever they guard.
// Crash rule: no state; nothing of it is left in a program.
#pragma once

#if defined(__clang__)
#define AEP_THREAD_SAFETY(attribute) __attribute__((attribute))
#else
#define AEP_THREAD_SAFETY(attribute)
#endif

/// A class whose objects are locks; `what`: in the compiler's words ("mutex").
#define AEP_LOCK(what) AEP_THREAD_SAFETY(capability(what))
/// A class whose objects hold a lock for a scope.
#define AEP_LOCK_SCOPE AEP_THREAD_SAFETY(scoped_lockable)
/// A member or variable that is read and written under the lock alone.
#define AEP_GUARDED_BY(lock) AEP_THREAD_SAFETY(guarded_by(lock))
/// What the pointer leads to is.
#define AEP_LEADS_TO_GUARDED_BY(lock) AEP_THREAD_SAFETY(pt_guarded_by(lock))
/// A function that is called under the lock.
#define AEP_UNDER(...) AEP_THREAD_SAFETY(requires_capability(__VA_ARGS__))
/// A function that is called without it: it takes the lock itself.
#define AEP_NOT_UNDER(...) AEP_THREAD_SAFETY(locks_excluded(__VA_ARGS__))
/// A function that takes the lock; takes it if it returns true; gives it up.
#define AEP_TAKES(...) AEP_THREAD_SAFETY(acquire_capability(__VA_ARGS__))
#define AEP_TRIES(...) AEP_THREAD_SAFETY(try_acquire_capability(true __VA_OPT__(, ) __VA_ARGS__))
#define AEP_GIVES(...) AEP_THREAD_SAFETY(release_capability(__VA_ARGS__))
/// A function that returns the lock.
#define AEP_RETURNS_LOCK(lock) AEP_THREAD_SAFETY(lock_returned(lock))
/// A function that is not checked, for a reason that stands beside it.
#define AEP_NOT_CHECKED AEP_THREAD_SAFETY(no_thread_safety_analysis)
