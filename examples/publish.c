/* Purpose: see publish.h. The functions of aep/dsm.h are weak here: the preload brings them, and
 *          without it they are null and the program runs as ever.
 * Who calls it: see publish.h.
 * Crash rule: see publish.h. */
#include "examples/publish.h"

#include <aep/dsm.h>

#include <errno.h>

#pragma weak dsm_self
#pragma weak dsm_attach
#pragma weak dsm_lookup
#pragma weak dsm_send_wait

enum publish_result publish(const char* receiver, void* block) {
    if (dsm_self == NULL) return PUBLISH_ALONE; /* no preload */
    if (dsm_self() == 0 && dsm_attach(NULL) != 0)
        return errno == ENOTCONN ? PUBLISH_ALONE : PUBLISH_FAILED;
    dsm_id to = dsm_lookup(receiver);
    if (to == 0) return PUBLISH_ALONE;
    return dsm_send_wait(to, block, -1) == 0 ? PUBLISH_SENT : PUBLISH_FAILED;
}
