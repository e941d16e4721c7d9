// Purpose: the groups of aep/dsm.h for C++20: owning handles, and allocators with which standard
//          containers live in a group. Header only.
// Who calls it: programs that link libaepmalloc.so.
// Crash rule: that of dsm.h: a killed writer leaves its group to the readers.
//
//     aep::dsm::Group group = aep::dsm::Group::create();
//     using Names = std::map<int, std::string, std::less<>, aep::dsm::group_allocator<...>>;
//     Names* names = group.make<Names>(group.allocator<Names::value_type>());
//     group.set_root(names);
//     group.send(peer);
//     ...
//     auto names = aep::dsm::receive_root<Names>();   there: Root<Names>, read with ->
//
// Destructors of what lies in a group do not run when it goes: its memory goes as a whole. An
// object may therefore hold memory of its own group, but nothing that must be given back elsewhere.
// Whatever is in it must mean the same in every process: no vtable, no pointer out of the group.
#pragma once

#include <limits>
#include <memory_resource>

#include <aep/dsm.hpp>

namespace aep::dsm {

template <class T>
class group_allocator;

/// The writer's handle of a group: one reference and the right to allocate; move-only. Its end
/// gives up both: the group stays while others hold it.
class Group {
  public:
    Group() = default;
    /// Takes over a reference, and the right to write if this process has it.
    explicit Group(dsm_group* group) : group_(group) {}
    /// `hint`: bytes that it is going to have. std::bad_alloc; ENOTCONN, EXDEV.
    static Group create(std::size_t hint = 0) {
        dsm_group* group = dsm_group_create(hint);
        if (group == nullptr) fail_to_allocate("dsm_group_create");
        return Group(group);
    }

    dsm_group* get() const { return group_.get(); }
    explicit operator bool() const { return group_ != nullptr; }
    std::size_t bytes() const { return dsm_group_bytes(get()); }
    /// See dsm_group_inspect. EINVAL.
    dsm_group_info inspect() const {
        dsm_group_info info{};
        detail::expect(dsm_group_inspect(get(), &info, sizeof info), "dsm_group_inspect");
        return info;
    }

    /// Memory of the group. std::bad_alloc; EPERM: another is the writer.
    void* allocate(std::size_t size, std::size_t alignment = alignof(std::max_align_t)) const {
        void* p = dsm_group_aligned_alloc(get(), alignment, size);
        if (p == nullptr) fail_to_allocate("dsm_group_alloc");
        return p;
    }
    void deallocate(void* p) const { detail::expect(dsm_group_free(get(), p), "dsm_group_free"); }

    /// Makes an object in the group; whatever its constructor throws.
    template <class T, class... Arguments>
    T* make(Arguments&&... arguments) const {
        void* memory = allocate(sizeof(T), alignof(T));
        try {
            return detail::construct<T>(memory, std::forward<Arguments>(arguments)...);
        } catch (...) {
            dsm_group_free(get(), memory);
            throw;
        }
    }
    /// Destroys and frees an object that was made so; null: nothing.
    template <class T>
    void destroy(T* object) const {
        if (object == nullptr) return;
        std::destroy_at(object);
        deallocate(object);
    }

    /// For containers in the group.
    template <class T>
    group_allocator<T> allocator() const;

    /// The object by which the group is known. EINVAL, EBUSY: see dsm_group_set_root.
    template <class T>
    void set_root(T* root) const {
        detail::expect(dsm_group_set_root(get(), root), "dsm_group_set_root");
        label_ = detail::label_of<T>(0);
    }
    /// Null: it has none. That it is a T is the caller's word.
    template <class T>
    T* root() const {
        return static_cast<T*>(dsm_group_root(get()));
    }

    /// Sends a reference, with the type of the root that was set by this handle. EAGAIN, ETIMEDOUT: no room (within the time),
    /// ESRCH: dead.
    void send(Id to, Timeout timeout = AT_ONCE, std::uint64_t tag = 0) const {
        dsm_label label = label_;
        label.tag = tag;
        detail::send(to, get(), label, timeout);
    }
    /// Makes another client that holds the group its writer; the reference stays.
    void hand_over(Id to) const {
        detail::expect(dsm_group_hand_over(get(), to), "dsm_group_hand_over");
    }

    /// The group, whose reference and right are now the caller's.
    dsm_group* release() { return group_.release(); }
    void reset() { group_.reset(); }

    [[noreturn]] static void fail_to_allocate(const char* what) {
        if (errno == ENOMEM) throw std::bad_alloc();
        detail::fail(what);
    }

  private:
    struct Close {
        void operator()(dsm_group* group) const {
            // Handed over: the reference is left.
            if (dsm_group_close(group) != 0) dsm_free(group);
        }
    };
    std::unique_ptr<dsm_group, Close> group_;
    mutable dsm_label label_{};
};

/// A reader's handle of a group whose root is a T: one reference; move-only. Each access sees
/// memory that the group has got since, so begin there again after the writer has told of changes.
template <class T>
class Root : public detail::Held<T, dsm_group> {
  public:
    Root() = default;
    /// Takes over a reference that this process has.
    explicit Root(dsm_group* group, Id sender = DSM_ANY, std::uint64_t tag = 0)
        : detail::Held<T, dsm_group>(group, sender, tag) {}

    T* get() const { return static_cast<T*>(dsm_group_root(group())); }
    T& operator*() const { return *get(); }
    T* operator->() const { return get(); }
    /// As released, it is Group's to take over after a hand-over.
    dsm_group* group() const { return this->handle(); }
    /// Nothing that was reached from here is used any more, by no thread: see dsm_group_quiesce. The next access looks again.
    void quiesce() const { detail::expect(dsm_group_quiesce(group()), "dsm_group_quiesce"); }
    /// What f(T&) gives, or throws; afterwards quiesce(). One thread of the process at a time: what it reached ends here.
    template <class F>
    decltype(auto) look(F&& f) const {
        struct End {
            const Root& root;
            ~End() { dsm_group_quiesce(root.group()); }
        } end{*this};
        return std::forward<F>(f)(**this);
    }
    /// Makes this process the writer of the group, which has none any more; this handle is empty then. EPERM: another is the
    /// writer; EXDEV: another node's.
    Group take_over() {
        detail::expect(dsm_group_take_over(group()), "dsm_group_take_over");
        return Group(this->release());
    }
    /// One more reference.
    Root share() const { return Root(this->one_more(), this->sender(), this->tag()); }
};

/// Waits for the next message, which must be a group; an empty Root: none came in time. EPROTOTYPE: its root is another type or
/// version than T; EMSGSIZE: it is smaller, or no group came; the reference is dropped. ESRCH: `from` is dead. That the
/// root is a T is the sender's word.
template <class T>
Root<T> receive_root(Id from = DSM_ANY, Timeout timeout = FOREVER) {
    dsm_message message{};
    void* const object = detail::receive(from, timeout, message);
    if (object == nullptr) return {};
    if (message.group == nullptr) detail::refuse(object, EMSGSIZE);
    detail::expect_type<T>(object, message);
    return Root<T>(message.group, message.sender, message.tag);
}

/// For containers that live in a group as a whole. It holds the group's address, which is the same
/// everywhere: a container made with it is read by all who hold the group, and changed by whoever
/// is its writer.
template <class T>
class group_allocator {
  public:
    using value_type = T;

    explicit group_allocator(dsm_group* group) noexcept : group_(group) {}
    template <class U>
    group_allocator(const group_allocator<U>& other) noexcept : group_(other.group()) {}

    /// std::bad_alloc; EPERM: another is the writer.
    T* allocate(std::size_t n) {
        if (n > std::numeric_limits<std::size_t>::max() / sizeof(T)) throw std::bad_alloc();
        void* p = dsm_group_aligned_alloc(group_, alignof(T), n * sizeof(T));
        if (p == nullptr) Group::fail_to_allocate("dsm_group_alloc");
        return static_cast<T*>(p);
    }
    /// Of somebody who is not the writer: nothing; the memory goes with the group.
    void deallocate(T* p, std::size_t) noexcept { dsm_group_free(group_, p); }

    dsm_group* group() const noexcept { return group_; }
    template <class U>
    bool operator==(const group_allocator<U>& other) const noexcept {
        return group_ == other.group();
    }

  private:
    dsm_group* group_;
};

template <class T>
group_allocator<T> Group::allocator() const {
    return group_allocator<T>(get());
}

/// The same for std::pmr containers. They keep a pointer to the resource, which lies in the process
/// that made them: others may read such a container, and nothing else. Without RTTI (-fno-rtti) two resources of one group
/// are not equal, so that a move between their containers copies.
class group_resource : public std::pmr::memory_resource {
  public:
    explicit group_resource(dsm_group* group) : group_(group) {}
    dsm_group* group() const { return group_; }

  private:
    void* do_allocate(std::size_t size, std::size_t alignment) override {
        void* p = dsm_group_aligned_alloc(group_, alignment, size);
        if (p == nullptr) Group::fail_to_allocate("dsm_group_alloc");
        return p;
    }
    void do_deallocate(void* p, std::size_t, std::size_t) override { dsm_group_free(group_, p); }
    bool do_is_equal(const std::pmr::memory_resource& other) const noexcept override {
#ifdef __cpp_rtti
        const auto* same = dynamic_cast<const group_resource*>(&other);
        return same != nullptr && same->group_ == group_;
#else
        return this == &other;
#endif
    }

    dsm_group* group_;
};

}  // namespace aep::dsm
