// Purpose: what the errors of aep/dsm.h mean in its terms.
// Who calls it: programs, their messages; the examples.
// Crash rule: no state.
#include <errno.h>

#include "include/aep/dsm.h"
#include "preload/export.hpp"

AEP_EXPORT const char* dsm_strerror(int error) noexcept {
    switch (error) {
        case 0:
            return "no error";
        case EAGAIN:
            return "not now: the mailbox is full, a subscriber is behind, no message waits, or no "
                   "thread can be made";
        case EBUSY:
            return "others have references to the group, it is the group's root, or something has "
                   "been received already";
        case EDEADLK:
            return "called from a signal handler that interrupted this library";
        case EEXIST:
            return "a living client has that name, or the topic has been subscribed to already";
        case EINTR:
            return "a signal handler ran while it waited";
        case EINVAL:
            return "a bad argument: not the start of a live object that this process allocated or "
                   "received, a name that is empty or longer than 31 bytes, no open mailbox or "
                   "topic of this process, or peers that it does not watch";
        case EMFILE:
        case ENFILE:
            return "no file descriptor is left";
        case EMSGSIZE:
            return "the object is smaller than what was expected";
        case ENETUNREACH:
            return "this node has no quorum: nothing goes to other nodes or comes from them until "
                   "it has";
        case ENOMSG:
            return "no message, but there may be an event of peers";
        case ENOENT:
            return "no living client has that name, or the group has no root";
        case ENOMEM:
            return "out of memory, or over a limit of the client, the context or the pool";
        case ENOSPC:
            return "the pool has no room left, or the context no further mailbox or topic";
        case ENOTCONN:
            return "this process is not a client of a context, or has not called dsm_attach";
        case ENOTRECOVERABLE:
            return "the context is poisoned: a client was killed inside an operation that could be "
                   "neither completed nor undone";
        case EPERM:
            return "another client is the writer of the group, or nobody";
        case EPROTOTYPE:
            return "the message is of another type or version than what was expected";
        case ESRCH:
            return "no such client, or it is dead or takes no part (dsm_attach), or that mailbox "
                   "is closed";
        case ESTALE:
            return "this node was declared dead by others";
        case ETIMEDOUT:
            return "nothing happened within the time";
        case EXDEV:
            return "it lies in memory that is private to this process (since a fork, or as a "
                   "guarded block: AEP_GUARD), or is for another node";
        default:
            return "unknown error";
    }
}
