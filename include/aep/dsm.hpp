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
// Functions throw std::system_error with dsm.h's errno, std::bad_alloc for ENOMEM of an allocation.
#pragma once

#include <cerrno>
#include <chrono>
#include <cstddef>
#include <iterator>
#include <memory>
#include <new>
#include <optional>
#include <string>
#include <system_error>
#include <type_traits>
#include <utility>

#include <aep/dsm.h>

namespace aep::dsm {

using Id = dsm_id;

namespace detail {

[[noreturn]] inline void fail(const char* what) {
    throw std::system_error(errno, std::generic_category(), what);
}
inline void expect(int result, const char* what) {
    if (result != 0) fail(what);
}

/// -1 for ever; at most what an int holds.
inline int milliseconds(std::optional<std::chrono::milliseconds> timeout) {
    if (!timeout) return -1;
    constexpr std::chrono::milliseconds MOST{1'000'000'000};
    return static_cast<int>((*timeout < MOST ? *timeout : MOST).count());
}

/// std::construct_at, also of an aggregate where the compiler (clang before 16) does not make one from parentheses.
template <class T, class... Arguments>
T* construct(void* memory, Arguments&&... arguments) {
    if constexpr (std::is_constructible_v<T, Arguments...>)
        return std::construct_at(static_cast<T*>(memory), std::forward<Arguments>(arguments)...);
    else
        return ::new (memory) T{std::forward<Arguments>(arguments)...};
}

struct Drop {
    void operator()(void* object) const { dsm_free(object); }
};

/// A reference that knows who sent it: what Ref (`Handle` is the object) and Root (it is the group) are.
/// Move-only; its end drops the reference.
template <class Handle>
class Held {
  public:
    explicit operator bool() const { return handle_ != nullptr; }
    /// Who sent it; DSM_ANY: made here.
    Id sender() const { return sender_; }
    /// Sends a reference; this one stays. EAGAIN: no room within the time, ESRCH: dead.
    void send(Id to, std::optional<std::chrono::milliseconds> timeout = {}) const {
        expect(dsm_send_wait(to, handle(), milliseconds(timeout)), "dsm_send");
    }
    /// What it leads to, whose reference is now the caller's to dsm_free.
    Handle* release() { return handle_.release(); }
    void reset() { handle_.reset(); }

  protected:
    Held() = default;
    Held(Handle* handle, Id sender) : handle_(handle), sender_(sender) {}
    Handle* handle() const { return handle_.get(); }
    /// With one more reference, for whoever takes it over.
    Handle* one_more() const {
        expect(dsm_ref(handle()), "dsm_ref");
        return handle();
    }

  private:
    std::unique_ptr<Handle, Drop> handle_;
    Id sender_ = DSM_ANY;
};

/// The next message, with a reference; null: none came in time.
inline void* receive(Id from, std::optional<std::chrono::milliseconds> timeout, dsm_info& info) {
    void* object = nullptr;
    do {
        object = dsm_recv(from, milliseconds(timeout), &info);
    } while (object == nullptr && errno == EINTR);
    if (object == nullptr && errno != ETIMEDOUT && errno != EAGAIN) fail("dsm_recv");
    return object;
}

/// A message that is not what its receiver expects: its reference is dropped.
[[noreturn]] inline void refuse(void* object) {
    dsm_free(object);
    errno = EMSGSIZE;
    fail("dsm_recv");
}

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

/// The client with that name, or none.
inline std::optional<Id> lookup(const std::string& name) {
    const Id id = dsm_lookup(name.c_str());
    return id == 0 ? std::nullopt : std::optional<Id>(id);
}

/// What can lie in memory that several processes use and that may outlive them all: no destructor
/// will run, and no pointer of one process's own (a vtable, a std::string) may be in it.
template <class T>
concept Sharable = std::is_trivially_destructible_v<T> && !std::is_polymorphic_v<T>;

/// One reference of this process to a shared object; move-only. Its end drops the reference.
/// Not thread-safe in itself, like unique_ptr; what it points at is shared.
template <Sharable T>
class Ref : public detail::Held<T> {
  public:
    Ref() = default;
    /// Takes over a reference that this process has.
    explicit Ref(T* object, Id sender = DSM_ANY) : detail::Held<T>(object, sender) {}

    T* get() const { return this->handle(); }
    T& operator*() const { return *get(); }
    T* operator->() const { return get(); }
    /// One more reference.
    Ref share() const { return Ref(this->one_more(), this->sender()); }
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

/// Waits for the next message (for ever without a timeout); an empty Ref: none came in time.
/// EMSGSIZE: the object is smaller than a T, and its reference is dropped. ESRCH: `from` is dead.
/// That it is a T is the sender's word.
template <Sharable T>
Ref<T> receive(Id from = DSM_ANY, std::optional<std::chrono::milliseconds> timeout = {}) {
    dsm_info info{};
    void* const object = detail::receive(from, timeout, info);
    if (object == nullptr) return {};
    if (info.size < sizeof(T)) detail::refuse(object);
    return Ref<T>(static_cast<T*>(object), info.sender);
}

/// For poll and epoll: readable while a message may be waiting; dsm_fd says exactly when. Then
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

    /// Sends a reference; the caller's stays. Waits while the peer's mailbox is full, at most the
    /// timeout: ETIMEDOUT. ESRCH: the peer is dead. EINTR, EINVAL, EXDEV: see dsm_send.
    void send(const Ref<T>& object, std::optional<std::chrono::milliseconds> timeout = {}) const {
        object.send(peer_, timeout);
    }
    /// Sends the caller's only reference: it is dropped here once it is sent, and kept if not.
    void send(Ref<T>&& object, std::optional<std::chrono::milliseconds> timeout = {}) const {
        send(std::as_const(object), timeout);
        object.reset();
    }
    /// False: the mailbox is full. Else as send.
    bool try_send(const Ref<T>& object) const {
        if (dsm_send(peer_, object.get()) == 0) return true;
        if (errno != EAGAIN) detail::fail("dsm_send");
        return false;
    }

    /// The oldest message; waits for it, at most the timeout: then an empty Ref. ESRCH: the peer
    /// is dead, and all that it sent has been received. EMSGSIZE: see aep::dsm::receive.
    Ref<T> receive(std::optional<std::chrono::milliseconds> timeout = {}) const {
        return dsm::receive<T>(peer_, timeout);
    }
    /// The oldest message, or an empty Ref at once.
    Ref<T> try_receive() const { return receive(std::chrono::milliseconds(0)); }

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
