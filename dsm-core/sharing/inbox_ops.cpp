// Purpose: see inbox_ops.hpp.
// Who calls it: see inbox_ops.hpp.
// Crash rule: see inbox_ops.hpp.
#include "dsm-core/sharing/inbox_ops.hpp"

namespace aep {
namespace {

/// The further inbox that comes after this one (or after the main one) among the client's; 0: none. Under the client's lock.
u32 next_further(u32 client, u32 number) {
    const u32 next = inbox_at(number).next;
    return is_further(next) && inbox_at(next).client == client ? next : 0;
}

/// The client has it no more. Under the locks of both; it is empty.
void forget_further(u32 client, u32 number) {
    u32 before = client;
    for (u32 i = 0; i < MOST_INBOXES; ++i) {  // a list that a client wrote over ends, too
        const u32 at = next_further(client, before);
        if (at == number) inbox_at(before).next = next_further(client, number);
        if (at == number || at == 0) break;
        before = at;
    }
    Inbox& in = inbox_at(number);
    in.next = 0;
    in.client = 0;
}

}  // namespace

void tell_that_it_is_closed(u32 inbox) {
    wake(words_of(inbox, Sleep::departures));
    wake(words_of(inbox, Sleep::arrivals));
}

Locked drop_message(Turn& turn, u32 client, u32 inbox) {
    return drop_message_if(
        turn, client, inbox, [] { return true; });
}

op::OpenInbox::Reply open_inbox(Caller caller, const op::OpenInbox& o) {
    const u32 client = caller.client, number = o.inbox;
    if (!is_further(number)) return {.status = Status::miss};
    Turn turn(caller);
    if (!turn.client(client) || !turn.inbox(number)) return {.status = Status::poisoned};
    Inbox& main = share_client(client).inbox;
    if (main.open == 0) return {.status = Status::gone};
    Inbox& in = inbox_at(number);
    const bool again = o.former.bits != 0;
    if (again && (!is_inbox_of(client, number) || id_of(number) != o.former))
        return {.status = Status::gone};
    if (!again && in.client != 0) return {.status = Status::exists};
    if (again && in.messages != 0) return {.status = Status::busy};
    in.generation += 1;
    if (again) return {.id = id_of(number)};
    in.client = client;
    in.most_kib = usual_most_kib();
    in.next = main.next;
    main.next = number;
    in.open = 1;
    AEP_SHARE_CRASH_POINT("share: inbox opened");
    return {.id = id_of(number)};
}

op::CloseInbox::Reply close_inbox(Caller caller, const op::CloseInbox& o) {
    const u32 client = caller.client, number = o.inbox;
    if (!is_further(number)) return {.status = Status::gone};
    Turn turn(caller);
    if (!turn.client(client) || !turn.inbox(number)) return {.status = Status::poisoned};
    Inbox& in = inbox_at(number);
    if (in.client != client) return {.status = Status::gone};
    in.open = 0;
    AEP_SHARE_CRASH_POINT("share: inbox closed");
    turn.let_go();
    tell_that_it_is_closed(number);
    for (u32 left = LEAVE_STEP; left != 0; --left) {
        switch (drop_message(turn, client, number)) {
            case Locked::yes:
                break;
            case Locked::given_up:
                return {.status = Status::poisoned};
            case Locked::nothing:
                forget_further(client, number);
                turn.let_go();
                wake_all_receivers();
                return {.status = Status::miss};
        }
    }
    return {.status = Status::ok};
}

op::LimitInbox::Reply limit_inbox(Caller caller, const op::LimitInbox& o) {
    const u32 client = caller.client, number = o.inbox;
    if (!is_inbox(number)) return {.status = Status::gone};
    Turn turn(caller);
    if (!turn.client(client) || !turn.inbox(number)) return {.status = Status::poisoned};
    if (!is_inbox_of(client, number)) return {.status = Status::gone};
    inbox_at(number).most_kib = o.most_kib;
    turn.wake_after(number, Sleep::departures);
    return {};
}

bool close_further(Turn& turn, u32 client) {
    u32 number = client;
    for (u32 i = 0; i < MOST_INBOXES; ++i) {  // a list that a client wrote over ends, too
        if (!turn.client(client)) return false;
        number = next_further(client, number);
        if (number == 0) break;
        if (!turn.inbox(number)) return false;
        inbox_at(number).open = 0;
        turn.let_go();
        tell_that_it_is_closed(number);
    }
    turn.let_go();
    return true;
}

void wake_all_receivers() {
    const auto tell = [](u32 number) {
        const Inbox& in = inbox_at(number);
        if (in.open.load() != 0 && in.arrival_waiters.load(std::memory_order_seq_cst) != 0)
            wake(words_of(number, Sleep::arrivals));
    };
    // Their lists may be changing: who comes to one meanwhile looks for himself before he sleeps.
    for (u32 i = 1; i <= context().max_clients; ++i) each_inbox(i, tell);
}

Locked empty_inboxes(Turn& turn, u32 client, u32& left) {
    u32 number = client;
    while (left != 0) {
        const Locked dropped = drop_message(turn, client, number);
        if (dropped == Locked::given_up) return dropped;
        if (dropped == Locked::nothing) {  // with the locks of both
            if (number != client) {
                forget_further(client, number);
                // Who waited there is dead, or has been woken and costs the next one a system call.
                inbox_at(number).arrival_waiters.store(0, std::memory_order_relaxed);
            }
            number = next_further(client, client);
            if (number == 0) inbox_at(client).next = 0;
            turn.let_go();
            if (number == 0) return Locked::nothing;
            continue;
        }
        --left;
    }
    return Locked::yes;
}

}  // namespace aep
