// Purpose: aep/dsm.h for C++20: owning handles and exceptions. Header only.
// Who calls it: programs that link libaepmalloc.so.
// Crash rule: that of dsm.h: a killed process's references go with it, whatever its handles say.
//
//     aep::dsm::attach("producer");
//     auto numbers = aep::dsm::make<Numbers>(1, 2, 3);      // Ref<Numbers>, like unique_ptr
//     numbers.send(aep::dsm::lookup("consumer"));
//     ...
//     aep::dsm::Ref<Numbers> got = aep::dsm::receive<Numbers>();
//
// Channel<T> is the same to and from one peer; fd() is for event loops.
//
// What waits is said the same way as in C: a send without a time does not wait for room (EAGAIN), one with a time does, and a
// receive waits as long as it is told; of those that need not be told, for ever. FOREVER is a time. A signal handler
// that runs meanwhile ends no wait and prolongs none.
//
// Messages carry the hash of their type's name (T::dsm_type_name, or as the compiler writes it: say it where programs of different
// compilers or namespaces meet) and T::dsm_version, if there is one. A receive of another type or version is EPROTOTYPE.
//
// Functions throw std::system_error with dsm.h's errno, std::bad_alloc for ENOMEM of an allocation.
#pragma once

#ifndef __cpp_exceptions
#error "aep/dsm.hpp and aep/group.hpp throw: compile without -fno-exceptions, or use aep/dsm.h"
#endif

#include <cerrno>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <iterator>
#include <memory>
#include <new>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <system_error>
#include <type_traits>
#include <utility>
#include <vector>

#include <aep/dsm_label.hpp>

namespace aep::dsm {

namespace detail {

[[noreturn]] inline void fail(const char* what) {
    throw std::system_error(errno, std::generic_category(), what);
}
inline void expect(int result, const char* what) {
    if (result != 0) fail(what);
}

inline void send(Id to, void* object, const dsm_label& label, Timeout timeout, unsigned flags = 0) {
    const Limit limit(timeout);
    int result = dsm_send_message(to, object, &label, limit.left(), flags);
    while (result != 0 && errno == EINTR) {
        result = dsm_send_message(to, object, &label, limit.left(), flags);
        // The time was up while a signal handler ran: the last look, which did not wait, found no room.
        if (result != 0 && errno == EAGAIN) errno = ETIMEDOUT;
    }
    expect(result, "dsm_send");
}

/// The next message, with a reference; null: none came in time.
inline void* receive(Id from, Timeout timeout, dsm_message& message) {
    const Limit limit(timeout);
    void* object = nullptr;
    do {
        object = dsm_recv_message(from, limit.left(), &message, sizeof message);
    } while (object == nullptr && errno == EINTR);
    if (object == nullptr && errno != ETIMEDOUT && errno != EAGAIN) fail("dsm_recv");
    return object;
}

/// A message that is not what its receiver expects (errno): its reference is dropped.
[[noreturn]] inline void refuse(void* object, int error) {
    dsm_free(object);
    errno = error;
    fail("dsm_recv");
}

/// Refuses what is no T.
template <class T>
void expect_type(void* object, const dsm_message& message) {
    const dsm_label label = detail::label_of<T>(0);
    if (dsm_expect(&message, label.type, label.version, sizeof(T)) != 0) refuse(object, errno);
}

/// A reference to a T that knows what it came with: what Ref (`Handle` is the object) and Root (it is the group) are.
/// Move-only; its end drops the reference.
template <class T, class Handle>
class Held {
  public:
    explicit operator bool() const { return handle_ != nullptr; }
    /// Who sent it; DSM_ANY: made here.
    Id sender() const { return sender_; }
    /// What it was sent with.
    std::uint64_t tag() const { return tag_; }
    /// Sends a reference; this one stays. EAGAIN, ETIMEDOUT: no room (within the time), ESRCH: dead.
    void send(Id to, Timeout timeout = AT_ONCE, std::uint64_t tag = 0) const& {
        detail::send(to, handle(), label_of<T>(tag), timeout);
    }
    /// Sends this one: it is empty then, and as it was if that throws.
    void send(Id to, Timeout timeout = AT_ONCE, std::uint64_t tag = 0) && {
        detail::send(to, handle(), label_of<T>(tag), timeout, DSM_DROP);
        handle_.release();
    }
    /// What it leads to, whose reference is now the caller's to dsm_free.
    Handle* release() { return handle_.release(); }
    void reset() { handle_.reset(); }

  protected:
    Held() = default;
    Held(Handle* handle, Id sender, std::uint64_t tag)
        : handle_(handle), sender_(sender), tag_(tag) {}
    Handle* handle() const { return handle_.get(); }
    /// With one more reference, for whoever takes it over.
    Handle* one_more() const {
        expect(dsm_ref(handle()), "dsm_ref");
        return handle();
    }

  private:
    std::unique_ptr<Handle, Drop> handle_;
    Id sender_ = DSM_ANY;
    std::uint64_t tag_ = 0;
};

}  // namespace detail

/// Takes part in sharing, under a name (empty: none). EEXIST, EINVAL, ENOTCONN.
inline void attach(const std::string& name = {}) {
    detail::expect(dsm_attach(name.empty() ? nullptr : name.c_str()), "dsm_attach");
}

/// This process. ENOTCONN.
inline Id self() {
    const Id id = dsm_self();
    if (id == 0) detail::fail("dsm_self");
    return id;
}

/// Takes part no more: see dsm_detach. ENOTCONN.
inline void detach() { detail::expect(dsm_detach(), "dsm_detach"); }

/// The client with that name, or none; waits until there is one, at most the timeout.
inline std::optional<Id> lookup(const std::string& name, Timeout timeout = AT_ONCE) {
    const detail::Limit limit(timeout);
    Id id = 0;
    do {
        id = dsm_lookup_wait(name.c_str(), limit.left());
    } while (id == 0 && errno == EINTR);
    return id == 0 ? std::nullopt : std::optional<Id>(id);
}

/// One reference of this process to a shared object; move-only. Its end drops the reference.
/// Not thread-safe in itself, like unique_ptr; what it points at is shared.
template <Sharable T>
class Ref : public detail::Held<T, T> {
  public:
    Ref() = default;
    /// Takes over a reference that this process has.
    explicit Ref(T* object, Id sender = DSM_ANY, std::uint64_t tag = 0)
        : detail::Held<T, T>(object, sender, tag) {}

    T* get() const { return this->handle(); }
    T& operator*() const { return *get(); }
    T* operator->() const { return get(); }
    /// One more reference.
    Ref share() const { return Ref(this->one_more(), this->sender(), this->tag()); }
};

/// Makes an object of this process's heap. std::bad_alloc; ENOTCONN.
template <Sharable T, class... Arguments>
Ref<T> make(Arguments&&... arguments) {
    void* memory = alignof(T) > alignof(std::max_align_t) ? dsm_aligned_alloc(alignof(T), sizeof(T))
                                                          : dsm_malloc(sizeof(T));
    if (memory == nullptr) {
        if (errno == ENOMEM) throw std::bad_alloc();
        detail::fail("dsm_malloc");
    }
    Ref<T> ref(static_cast<T*>(memory));
    detail::construct<T>(memory, std::forward<Arguments>(arguments)...);
    return ref;
}

/// Waits for the next message; an empty Ref: none came in time. EPROTOTYPE: it is another type or version than T; EMSGSIZE:
/// it is smaller; its reference is dropped. ESRCH: `from` is dead. That it is a T is the sender's word.
template <Sharable T>
Ref<T> receive(Id from = DSM_ANY, Timeout timeout = FOREVER) {
    dsm_message message{};
    void* const object = detail::receive(from, timeout, message);
    if (object == nullptr) return {};
    detail::expect_type<T>(object, message);
    return Ref<T>(static_cast<T*>(object), message.sender, message.tag);
}

/// Sends several in one operation, or few (dsm_send_many): how many, the first ones of them, which are empty then. Waits for room for the first
/// alone. EAGAIN, ETIMEDOUT, ESRCH: not even that.
template <Sharable T>
std::size_t send_many(Id to, std::span<Ref<T>> objects, Timeout timeout = AT_ONCE,
                      std::uint64_t tag = 0) {
    if (objects.empty()) return 0;
    std::vector<void*> addresses;
    for (const Ref<T>& object : objects) addresses.push_back(object.get());
    const dsm_label label = detail::label_of<T>(tag);
    const detail::Limit limit(timeout);
    int sent = 0;
    do {
        sent =
            dsm_send_many(to, addresses.data(), addresses.size(), &label, limit.left(), DSM_DROP);
    } while (sent < 0 && errno == EINTR);
    if (sent < 0) detail::fail("dsm_send_many");
    for (Ref<T>& object : objects.first(static_cast<std::size_t>(sent))) object.release();
    return static_cast<std::size_t>(sent);
}

/// Waits for one message and takes what else is there, `most` in all (dsm_recv_many): they are added to `objects`. How many; 0: none came in
/// time. What is no T is dropped, and said when the others have been added: EPROTOTYPE, EMSGSIZE.
template <Sharable T>
std::size_t receive_many(std::vector<Ref<T>>& objects, std::size_t most, Id from = DSM_ANY,
                         Timeout timeout = FOREVER) {
    if (most == 0) return 0;
    std::vector<void*> addresses(most);
    std::vector<dsm_message> messages(most);
    objects.reserve(objects.size() +
                    most);  // what has been taken cannot be lost for want of memory
    const detail::Limit limit(timeout);
    int taken = 0;
    do {
        taken = dsm_recv_many(from, limit.left(), addresses.data(), messages.data(),
                              sizeof(dsm_message), most);
    } while (taken < 0 && errno == EINTR);
    if (taken < 0 && (errno == ETIMEDOUT || errno == EAGAIN)) return 0;
    if (taken < 0) detail::fail("dsm_recv_many");
    const dsm_label label = detail::label_of<T>(0);
    int wrong = 0;
    for (std::size_t i = 0; i < static_cast<std::size_t>(taken); ++i) {
        Ref<T> object(static_cast<T*>(addresses[i]), messages[i].sender, messages[i].tag);
        if (dsm_expect(&messages[i], label.type, label.version, sizeof(T)) == 0)
            objects.push_back(std::move(object));
        else
            wrong = errno;
    }
    if (wrong == 0) return static_cast<std::size_t>(taken);
    errno = wrong;
    detail::fail("dsm_recv_many");
}

/// Drops the references of all (dsm_free_many): they are empty then.
template <Sharable T>
void reset_many(std::span<Ref<T>> objects) {
    std::vector<void*> addresses;
    addresses.reserve(objects.size());
    for (Ref<T>& object : objects) addresses.push_back(object.release());
    // Those of a Ref are the process's: none is refused.
    if (!addresses.empty()) dsm_free_many(addresses.data(), addresses.size());
}

/// What dsm_next_event tells of a peer.
enum class PeerChange : std::uint32_t {
    came = DSM_PEER_CAME,
    left = DSM_PEER_LEFT,
    died = DSM_PEER_DIED,
    renamed = DSM_PEER_RENAMED
};
struct PeerEvent {
    PeerChange change;
    Id peer;
    std::string name;  // of who has gone the one that was told
    unsigned missed;   // so many others have come and gone in its place since
};

/// From here on next_event tells who is there, and then who comes and goes; or (`flags` 0) nothing. With
/// DSM_END_WAITS a receive that waits throws ENOMSG when there may be an event. ENOTCONN.
inline void watch_peers(unsigned flags = DSM_WATCH) {
    detail::expect(dsm_watch_peers(flags), "dsm_watch_peers");
}

/// The next event, or none within the time. EINVAL: nobody watches; ENOTCONN.
inline std::optional<PeerEvent> next_event(Timeout timeout = AT_ONCE) {
    const detail::Limit limit(timeout);
    dsm_event event{};
    int result = 0;
    do {
        result = dsm_next_event(&event, sizeof event, limit.left());
    } while (result != 0 && errno == EINTR);
    if (result != 0 && (errno == EAGAIN || errno == ETIMEDOUT)) return std::nullopt;
    detail::expect(result, "dsm_next_event");
    return PeerEvent{static_cast<PeerChange>(event.kind), event.peer, event.name, event.missed};
}

/// For poll and epoll: readable while a message or an event may be waiting; dsm_fd says exactly when. Then
/// receive with a timeout of zero until that is empty. ENOTCONN, EMFILE, EAGAIN.
inline int fd() {
    const int descriptor = dsm_fd();
    if (descriptor < 0) detail::fail("dsm_fd");
    return descriptor;
}

/// What this process and one peer send each other, objects of one type:
///
///     aep::dsm::Channel<Batch> channel = aep::dsm::Channel<Batch>::to("consumer");
///     channel.send(aep::dsm::make<Batch>());
///     ...
///     for (aep::dsm::Ref<Batch> batch : aep::dsm::Channel<Batch>(producer)) use(*batch);
///
/// A name for the peer, no more: it holds nothing, is copied freely, used by any thread, and needs
/// no counterpart. Receiving takes this peer's messages alone and leaves those of others; with
/// DSM_ANY it takes everybody's, and cannot send. That a message is a T is the peer's word.
template <Sharable T>
class Channel {
  public:
    explicit Channel(Id peer) : peer_(peer) {}
    /// To the client with that name. ENOENT, ENOTCONN.
    static Channel to(const std::string& name) {
        const Id id = dsm_lookup(name.c_str());
        if (id == 0) detail::fail("dsm_lookup");
        return Channel(id);
    }

    Id peer() const { return peer_; }
    /// aep::dsm::fd(): of the process, for the messages of all.
    int fd() const { return dsm::fd(); }

    /// Sends a reference; the caller's stays. EAGAIN, ETIMEDOUT: the peer's mailbox is full (all the time). ESRCH: the peer
    /// is dead. EINVAL, EXDEV: see dsm_send.
    void send(const Ref<T>& object, Timeout timeout = AT_ONCE, std::uint64_t tag = 0) const {
        object.send(peer_, timeout, tag);
    }
    /// Sends the caller's only reference: it is empty once that is done, and kept if it throws.
    void send(Ref<T>&& object, Timeout timeout = AT_ONCE, std::uint64_t tag = 0) const {
        std::move(object).send(peer_, timeout, tag);
    }
    /// False: the mailbox is full. Else as send.
    bool try_send(const Ref<T>& object, std::uint64_t tag = 0) const {
        const dsm_label label = detail::label_of<T>(tag);
        if (dsm_send_message(peer_, object.get(), &label, 0, 0) == 0) return true;
        if (errno != EAGAIN) detail::fail("dsm_send");
        return false;
    }

    /// The oldest message; waits for it, at most the timeout: then an empty Ref. ESRCH: the peer
    /// is dead, and all that it sent has been received. EMSGSIZE: see aep::dsm::receive.
    Ref<T> receive(Timeout timeout = FOREVER) const { return dsm::receive<T>(peer_, timeout); }
    /// The oldest message, or an empty Ref at once.
    Ref<T> try_receive() const { return receive(AT_ONCE); }

    /// Each step receives, so a loop over the channel ends when the peer is dead and all that it
    /// sent has been received. With DSM_ANY it never ends. An input range: one loop at a time.
    class Iterator {
      public:
        using iterator_concept = std::input_iterator_tag;
        using value_type = Ref<T>;
        using difference_type = std::ptrdiff_t;

        explicit Iterator(Id peer) : peer_(peer) { ++*this; }
        Iterator(Iterator&&) noexcept = default;
        Iterator& operator=(Iterator&&) noexcept = default;
        Ref<T>&& operator*() const { return std::move(object_); }
        Iterator& operator++() {
            try {
                object_ = dsm::receive<T>(peer_);
            } catch (const std::system_error& error) {
                if (error.code().value() != ESRCH) throw;
                ended_ = true;
            }
            return *this;
        }
        void operator++(int) { ++*this; }
        bool operator==(std::default_sentinel_t) const { return ended_; }

      private:
        Id peer_;
        mutable Ref<T> object_;
        bool ended_ = false;
    };
    Iterator begin() const { return Iterator(peer_); }
    std::default_sentinel_t end() const { return {}; }

  private:
    Id peer_;
};

}  // namespace aep::dsm
