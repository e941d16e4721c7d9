// Purpose: see topic_ops.hpp.
// Who calls it: see topic_ops.hpp.
// Crash rule: see topic_ops.hpp.
#include "dsm-core/sharing/topic_ops.hpp"

#include <algorithm>

#include "dsm-core/sharing/crash_points.hpp"
#include "dsm-core/sharing/giving.hpp"
#include "dsm-core/sharing/inbox_ops.hpp"
#include "dsm-core/sharing/topics.hpp"

namespace aep {
namespace {

constexpr u64 NEVER = ~u64{0};

/// Calls `f(index)` for each that has the topic open. Under its lock. A list that a client wrote over ends, too.
template <class F>
void each_user(const Topic& topic, F&& f) {
    const u32 most = most_topic_users(context().max_clients);
    u32 at = topic.first_user;
    for (u32 n = 0; n < most && is_topic_user(at); ++n, at = topic_user_at(at).next_of_topic) f(at);
}

/// The topic that the client has open so, with the locks of both. 0: `status` says why there is none.
u32 lock_open_topic(Turn& turn, u32 client, TopicUse use, Status& status) {
    status = Status::poisoned;
    if (!turn.client(client)) return 0;
    status = Status::gone;
    if (!is_topic_user(use.user())) return 0;
    const TopicUser& user = topic_user_at(use.user());
    if (user.client != client || user.generation != use.generation() || !is_topic(user.topic))
        return 0;
    status = turn.inbox(user.topic) ? Status::ok : Status::poisoned;
    return status == Status::ok ? u32{user.topic} : 0;
}
/// The same, of one that takes part.
u32 lock_topic(Turn& turn, u32 client, TopicUse use, Status& status) {
    const u32 number = lock_open_topic(turn, client, use, status);
    if (number == 0 || share_client(client).sends_as != 0) return number;
    status = Status::gone;
    return 0;
}

/// Publications that there were before the oldest that is kept.
u64 tail_of(u32 number) { return topic_at(number).head - inbox_at(number).messages; }

bool misses_nothing(Behind behind) { return behind == Behind::block || behind == Behind::fail; }

// ---- publishing

/// Whether there is room for one about so many KiB: status. Until when that is known.
struct Room {
    Status status;
    u64 until = NEVER, until_kib = NEVER;
};
Room look_for_room(u32 number, u32 kib) {
    const Topic& topic = topic_at(number);
    Room room{Status::ok};
    each_user(topic, [&](u32 index) {
        const TopicUser& user = topic_user_at(index);
        const Behind behind = user.behind;
        if (!misses_nothing(behind)) return;
        const u64 until = user.next + user.most_messages;
        const u64 until_kib = user.next_kib + user.most_kib;
        if (until < room.until) room.until = until;
        if (until_kib < room.until_kib) room.until_kib = until_kib;
        // What is larger than all that it may be behind has room alone.
        const bool too_much =
            kib != 0 && topic.head_kib != user.next_kib && topic.head_kib + kib > until_kib;
        if (topic.head < until && !too_much) return;
        if (room.status != Status::busy)
            room.status = behind == Behind::fail ? Status::busy : Status::full;
    });
    return room;
}

bool is_known_to_have_room(const Topic& topic, u32 kib) {
    return topic.head < topic.room_until &&
           (kib == 0 || topic.head_kib + kib <= topic.room_until_kib);
}

/// Whether the oldest has to go before another one is laid down. Nobody who may miss nothing has still to take it, if there is room for that one: it may be
/// behind by less than is kept.
bool is_full(u32 number, u32 kib) {
    const Inbox& ring = inbox_at(number);
    return ring.messages != 0 &&
           (ring.messages >= topic_at(number).most_messages || !has_room_for(ring, kib));
}

/// KiB of what is about to be published, as far as the client knows it.
u32 kib_of_publication(u32 client, const op::Publish& o) {
    if (o.bytes != 0) return kib_of(o.bytes);
    const u32 holder = find_holder_at(client, o.object);
    return holder == NO_RECORD ? 0 : kib_of_export(holder_at(holder).object);
}

/// The oldest goes, if it still has to. False: given up. Without locks before and afterwards.
bool make_room(Turn& turn, u32 client, u32 number, u32 kib) {
    const Locked dropped = drop_message_if(turn, client, number, [&] {
        const bool has_room = is_known_to_have_room(topic_at(number), kib) ||
                              look_for_room(number, kib).status == Status::ok;
        return has_room && is_full(number, kib);
    });
    if (dropped == Locked::given_up) return false;
    turn.let_go();
    return true;
}

op::Publish::Reply publish_under_locks(Turn& turn, u32 client, u32 number, const op::Publish& o) {
    const Inbox& ring = inbox_at(number);
    const u32 kib = ring.kib;
    const op::Send::Reply sent = send_under_locks(turn, client, client,
                                                  {.object = o.object,
                                                   .to = ShareId::make(number, 0, 0, 0),
                                                   .bytes = o.bytes,
                                                   .label = o.label,
                                                   .drop = o.drop});
    if (sent.status != Status::ok) return {.status = sent.status};
    Topic& topic = topic_at(number);
    ++topic.head;
    if (ring.kib != kib) topic.head_kib += ring.kib - kib;
    AEP_SHARE_CRASH_POINT("share: published");
    turn.wake_after(number, Sleep::arrivals);
    return {.left_group = sent.left_group};
}

// ---- taking

/// Where a subscriber takes next.
struct Place {
    u64 at, kib;  // publication, and KiB before it
};
/// Of one who may miss some: the oldest that there is and that it may be behind.
Place place_of(const TopicUser& user, u32 number) {
    const Topic& topic = topic_at(number);
    Place place{user.next, user.next_kib};
    if (misses_nothing(user.behind)) return place;
    const u64 tail = tail_of(number);
    if (place.at < tail) place = {tail, topic.head_kib - inbox_at(number).kib};
    const auto is_too_far = [&] {
        const u64 behind = topic.head - place.at;
        return behind > user.most_messages ||
               (behind > 1 && topic.head_kib - place.kib > user.most_kib);
    };
    for (u32 n = 0; n < MAILBOX_MESSAGES && is_too_far(); ++n, ++place.at)
        place.kib += kib_of_export(message_at(number, static_cast<u32>(place.at - tail)).object);
    return place;
}

/// The client has one more reference to what somebody else refers to as long as the topic is locked.
Status hold_one_more(Turn& turn, u32 client, u32 object) {
    const u32 holder = find_holder(client, object);
    if (holder != NO_RECORD) {
        if (!take_reference(turn, holder)) return Status::poisoned;
        ++holder_at(holder).count;
        return Status::ok;
    }
    const Status supplied = supply(turn, client, 0, true);
    if (supplied != Status::ok) return supplied;
    if (!turn.object(object)) return Status::poisoned;
    ++export_at(object).references;
    hold_anew(client, object, 0);
    return Status::ok;
}

// ---- closing

/// Who has a topic open no more is on no list. Under the locks of names, of its client and of the topic.
void forget_user(u32 client, u32 index) {
    const auto unlink = [&](Logged<u32>& first, Logged<u32> TopicUser::*next) {
        Logged<u32>* link = &first;
        for (u32 n = 0; *link != index; ++n) {  // a list that a client wrote over ends, too
            if (n == most_topic_users(context().max_clients) || !is_topic_user(*link)) return;
            link = &(topic_user_at(*link).*next);
        }
        *link = topic_user_at(index).*next;
    };
    TopicUser& user = topic_user_at(index);
    unlink(topic_at(user.topic).first_user, &TopicUser::next_of_topic);
    unlink(share_client(client).first_topic_user, &TopicUser::next_of_client);
    user.behind = Behind::none;
    user.client = 0;
    user.next_of_client = sharing().free_topic_users;
    sharing().free_topic_users = index;
}

/// A record that is nobody's; 0: there is none. Under the lock of names.
u32 new_user() {
    ShareHeader& s = sharing();
    const u32 free = s.free_topic_users;
    if (is_topic_user(free)) {
        s.free_topic_users = topic_user_at(free).next_of_client;
        return free;
    }
    if (!is_topic_user(s.topic_users_used + 1)) return 0;
    ++s.topic_users_used;
    return s.topic_users_used;
}

/// The client has it open no more, or, if the topic's last user is to go, the oldest of what is in it goes first: Locked::yes. Takes the locks that it needs,
/// and lets go of them.
Locked close_step(Turn& turn, u32 client, TopicUse use) {
    if (!turn.names()) return Locked::given_up;
    Status status = Status::ok;
    const u32 number = lock_open_topic(turn, client, use, status);
    if (status == Status::poisoned) return Locked::given_up;
    if (number == 0) {  // another thread was faster
        turn.let_go();
        return Locked::nothing;
    }
    const TopicUser& user = topic_user_at(use.user());
    const Topic& topic = topic_at(number);
    const auto is_last = [&] {
        return topic.first_user == use.user() && user.generation == use.generation() &&
               user.next_of_topic == 0;
    };
    if (is_last() && inbox_at(number).messages != 0) {
        turn.let_go();
        const Locked dropped = drop_message_if(turn, client, number, is_last);
        if (dropped == Locked::given_up) return dropped;
        turn.let_go();
        return Locked::yes;
    }
    if (is_last()) inbox_at(number).open = 0;
    forget_user(client, use.user());
    // Before it has happened: they look under the lock that this has until then.
    wake(words_of(number, Sleep::departures));
    wake(words_of(number, Sleep::arrivals));  // threads of the client's own
    AEP_SHARE_CRASH_POINT("share: topic closed");
    turn.let_go();
    return Locked::nothing;
}

}  // namespace

op::OpenTopic::Reply open_topic(Caller caller, const op::OpenTopic& o) {
    const u32 client = caller.client, number = o.topic;
    ShareName name = o.name;
    name.text[SHARE_NAME_BYTES - 1] = '\0';
    if (!is_topic(number) || name.text[0] == '\0') return {.status = Status::miss};
    Turn turn(caller);
    if (!turn.names() || !turn.client(client) || !turn.inbox(number))
        return {.status = Status::poisoned};
    if (share_client(client).sends_as == 0) return {.status = Status::gone};
    for (u32 i = 0; i < MOST_TOPICS; ++i) {
        const u32 other = first_topic() + i;
        const Topic& t = topic_at(other);
        if (t.first_user == 0) continue;
        const bool same = same_name(t.name().text, name.text);
        if (other == number ? !same : same) return {.status = Status::exists};
    }
    const u32 index = new_user();
    if (index == 0) return {.status = Status::limit};
    Topic& topic = topic_at(number);
    Inbox& ring = inbox_at(number);
    if (topic.first_user == 0) {
        u64 words[SHARE_NAME_BYTES / sizeof(u64)];
        __builtin_memcpy(words, name.text, sizeof words);
        for (usize i = 0; i < SHARE_NAME_BYTES / sizeof(u64); ++i) topic.name_words[i] = words[i];
        const bool all = o.most_messages == 0 || o.most_messages > MAILBOX_MESSAGES;
        topic.most_messages = all ? MAILBOX_MESSAGES : o.most_messages;
        ring.most_kib = o.most_kib == 0 ? usual_most_kib() : o.most_kib;
        topic.room_until = topic.room_until_kib = NEVER;
        ring.open = 1;
    }
    TopicUser& user = topic_user_at(index);
    user.client = client;
    user.generation += 1;
    user.topic = number;
    user.next_of_topic = topic.first_user;
    topic.first_user = index;
    user.next_of_client = share_client(client).first_topic_user;
    share_client(client).first_topic_user = index;
    AEP_SHARE_CRASH_POINT("share: topic opened");
    return {.use = TopicUse::make(index, user.generation)};
}

op::Subscribe::Reply subscribe(Caller caller, const op::Subscribe& o) {
    Status status = Status::ok;
    Turn turn(caller);
    const u32 number = lock_topic(turn, caller.client, o.use, status);
    if (number == 0) return {.status = status};
    TopicUser& user = topic_user_at(o.use.user());
    Topic& topic = topic_at(number);
    const Inbox& ring = inbox_at(number);
    const bool leaves = o.behind == Behind::none, subscribed = user.behind != Behind::none;
    if (leaves == !subscribed) return {.status = leaves ? Status::gone : Status::exists};
    user.behind = o.behind;
    if (leaves) {
        turn.wake_after(number, Sleep::departures);
        turn.let_go();
        wake(words_of(number, Sleep::arrivals));  // threads of the client's own
        return {};
    }
    const auto bounded = [](u32 wanted, u32 most) {
        return wanted == 0 || wanted > most ? most : wanted;
    };
    user.most_messages = bounded(o.most_messages, topic.most_messages);
    user.most_kib = bounded(o.most_kib, ring.most_kib);
    const u32 messages = ring.messages;
    const u32 history = std::min({o.history, messages, MAILBOX_MESSAGES});
    u64 kib = topic.head_kib;
    for (u32 i = messages - history; i < messages; ++i)
        kib -= kib_of_export(message_at(number, i).object);
    user.next = topic.head - history;
    user.next_kib = kib;
    if (misses_nothing(o.behind)) {
        topic.room_until = 0;  // the next publication looks
        topic.room_until_kib = 0;
    }
    AEP_SHARE_CRASH_POINT("share: subscribed");
    return {};
}

op::Publish::Reply publish(Caller caller, const op::Publish& o) {
    const u32 client = caller.client;
    Status status = Status::ok;
    Turn turn(caller);
    for (;;) {
        const u32 number = lock_topic(turn, client, o.use, status);
        if (number == 0) return {.status = status};
        Topic& topic = topic_at(number);
        const u32 kib = kib_of_publication(client, o);
        if (AEP_UNLIKELY(!is_known_to_have_room(topic, kib))) {
            const Room room = look_for_room(number, kib);
            if (room.status != Status::ok) return {.status = room.status};
            topic.room_until = room.until;
            topic.room_until_kib = room.until_kib;
        }
        if (!is_full(number, kib)) return publish_under_locks(turn, client, number, o);
        turn.let_go();
        if (!make_room(turn, client, number, kib)) return {.status = Status::poisoned};
    }
}

op::TakePublication::Reply take_publication(Caller caller, const op::TakePublication& o) {
    const u32 client = caller.client;
    Status status = Status::ok;
    Turn turn(caller);
    const u32 number = lock_topic(turn, client, o.use, status);
    if (number == 0) return {.status = status};
    TopicUser& user = topic_user_at(o.use.user());
    const Topic& topic = topic_at(number);
    if (user.behind == Behind::none) return {.status = Status::gone};
    const Place place = place_of(user, number);
    if (place.at >= topic.head) return {.status = Status::miss};
    const Message m = message_at(number, static_cast<u32>(place.at - tail_of(number)));
    const Status held = hold_one_more(turn, client, m.object);
    if (held != Status::ok) return {.status = held};
    const u32 kib = kib_of_export(m.object);
    const u64 missed = place.at - user.next;
    const bool was_behind = topic.head - place.at >= user.most_messages || kib != 0;
    user.next = place.at + 1;
    if (kib != 0 || missed != 0) user.next_kib = place.kib + kib;
    ++share_client(client).received;
    AEP_SHARE_CRASH_POINT("share: publication taken");
    if (was_behind && misses_nothing(user.behind)) turn.wake_after(number, Sleep::departures);
    const Export& e = export_at(m.object);
    const bool group = e.group.load() == m.object;
    return {.kind = group ? ObjectKind::group : ObjectKind::object,
            .object = e.address.load(),
            .bytes = group ? 0 : e.bytes.load(),
            .sender = {m.sender},
            .label = m.label(),
            .missed = missed};
}

op::CloseTopic::Reply close_topic(Caller caller, const op::CloseTopic& o) {
    const u32 client = caller.client;
    Status status = Status::ok;
    Turn turn(caller);
    if (lock_open_topic(turn, client, o.use, status) == 0) return {.status = status};
    turn.let_go();
    for (u32 left = LEAVE_STEP; left != 0; --left) {
        const Locked step = close_step(turn, client, o.use);
        if (step == Locked::given_up) return {.status = Status::poisoned};
        if (step == Locked::nothing) return {.status = Status::miss};
    }
    return {.status = Status::ok};
}

Locked close_topics(Turn& turn, u32 client, u32& left) {
    for (; left != 0; --left) {
        if (!turn.client(client)) return Locked::given_up;
        Logged<u32>& first = share_client(client).first_topic_user;
        const u32 index = first;
        const bool sound = is_topic_user(index) && topic_user_at(index).client == client &&
                           is_topic(topic_user_at(index).topic);
        if (!sound && index != 0) first = 0;  // a list that a client wrote over
        const u32 generation = sound ? u32{topic_user_at(index).generation} : 0;
        turn.let_go();
        if (!sound) return Locked::nothing;
        if (close_step(turn, client, TopicUse::make(index, generation)) == Locked::given_up)
            return Locked::given_up;
    }
    return Locked::yes;
}

}  // namespace aep
