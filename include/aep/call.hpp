// Purpose: calls of aep/dsm.h for C++20: results instead of exceptions, and coroutines that go on when their answer has come. Header
//          only; works with -fno-exceptions.
// Who calls it: programs that link libaepmalloc.so.
// Crash rule: that of dsm.h: with a killed caller goes what it waited for, with a killed server what it was asked.
//
//     auto caller = aep::dsm::Caller::open();                                     // has a mailbox of its own
//     auto answer = caller->call<Answer>(server, aep::dsm::try_make<Question>(7).value(), 1s);
//     if (!answer) std::fprintf(stderr, "%s\n", dsm_strerror(answer.error()));
//
//     aep::dsm::Job ask(aep::dsm::Caller& caller, Id server) {                    // many at once, in one thread
//         auto answer = co_await caller.ask<Answer>(server, aep::dsm::try_make<Question>(7).value());
//         ...
//     }
//     ask(*caller, server); ask(*caller, other); caller->run();                   // until all have their answers
//
//     while (auto served = aep::dsm::serve<Question>([](const Question& q) { return try_make<Answer>(...); })) continue;
//
// An answer of another type or version than expected is EPROTOTYPE, a smaller one EMSGSIZE.
#pragma once

#include <algorithm>
#include <cerrno>
#include <coroutine>
#include <cstdlib>
#include <unordered_map>
#include <variant>
#include <vector>

#include <aep/dsm_label.hpp>

namespace aep::dsm {

/// A reference of this process: dropped at its end. `release()` gives it to whoever drops it by dsm_free.
template <Sharable T>
using Handle = std::unique_ptr<T, detail::Drop>;

/// A value, or the errno of what went wrong (dsm_strerror says what that means). As std::expected.
template <class T>
class [[nodiscard]] Result {
  public:
    Result(T value) : content_(std::in_place_index<0>, std::move(value)) {}
    static Result failure(int error) { return Result(Failure{error}); }

    explicit operator bool() const { return content_.index() == 0; }
    bool has_value() const { return bool(*this); }
    /// Of a failure: ends the process, as there are no exceptions.
    T& value() & { return checked(); }
    T&& value() && { return std::move(checked()); }
    T& operator*() & { return checked(); }
    T&& operator*() && { return std::move(checked()); }
    const T& operator*() const& { return const_cast<Result*>(this)->checked(); }
    T* operator->() { return &checked(); }
    const T* operator->() const { return &const_cast<Result*>(this)->checked(); }
    /// 0: there is a value.
    int error() const {
        const Failure* failure = std::get_if<1>(&content_);
        return failure == nullptr ? 0 : failure->error;
    }

  private:
    struct Failure {
        int error;
    };
    explicit Result(Failure failure) : content_(failure) {}
    T& checked() {
        if (content_.index() != 0) std::abort();
        return *std::get_if<0>(&content_);
    }

    std::variant<T, Failure> content_;
};

/// An object of this process's heap. ENOMEM, ENOTCONN.
template <Sharable T, class... Arguments>
Result<Handle<T>> try_make(Arguments&&... arguments) {
    void* memory = alignof(T) > alignof(std::max_align_t) ? dsm_aligned_alloc(alignof(T), sizeof(T))
                                                          : dsm_malloc(sizeof(T));
    if (memory == nullptr) return Result<Handle<T>>::failure(errno);
    return Handle<T>(detail::construct<T>(memory, std::forward<Arguments>(arguments)...));
}

namespace detail {

/// What came, if it is a T; else its reference is dropped.
template <Sharable T>
Result<Handle<T>> as(void* object, const dsm_message& message) {
    const dsm_label label = label_of<T>(0);
    if (dsm_expect(&message, label.type, label.version, sizeof(T)) == 0)
        return Handle<T>(static_cast<T*>(object));
    const int error = errno;
    dsm_free(object);
    return Result<Handle<T>>::failure(error);
}

}  // namespace detail

/// What a coroutine gives that is started and left alone: it runs at once, until it waits, and its frame goes with its end.
struct Job {
    struct promise_type {
        Job get_return_object() { return {}; }
        std::suspend_never initial_suspend() noexcept { return {}; }
        std::suspend_never final_suspend() noexcept { return {}; }
        void return_void() {}
        void unhandled_exception() { std::abort(); }
    };
};

/// A mailbox for the answers to any number of calls, and the loop in which the coroutines go on that wait for them. For one thread; move-only
/// while no coroutine waits. Its end closes the mailbox: answers that come later meet nobody. Coroutines that wait must have gone on before
/// (run), else they never do.
class Caller {
  public:
    /// ENOTCONN, ENOSPC, ENOMEM: see dsm_mailbox_open.
    static Result<Caller> open() {
        const Id id = dsm_mailbox_open();
        return id == 0 ? Result<Caller>::failure(errno) : Result<Caller>(Caller(id));
    }
    Caller(Caller&& other) noexcept
        : mailbox_(std::exchange(other.mailbox_, 0)),
          next_(other.next_),
          waiting_(std::move(other.waiting_)) {}
    Caller& operator=(Caller&&) = delete;
    ~Caller() {
        if (mailbox_ != 0) dsm_mailbox_close(mailbox_);
    }

    /// How many calls wait for their answers.
    std::size_t waiting() const { return waiting_.size(); }

    /// What `co_await caller.ask<Answer>(...)` is: sends when it is awaited, and is resumed by run(), in its thread.
    template <Sharable Answer, Sharable Question>
    class Asked;

    /// A call for a coroutine. Result<Handle<Answer>>: ESRCH: the server is dead, or was before it answered; ETIMEDOUT; EAGAIN: its mailbox is
    /// full (the call does not wait for room); as dsm_send_message. The question goes with the call.
    template <Sharable Answer, Sharable Question>
    Asked<Answer, Question> ask(Id to, Handle<Question> question, Timeout timeout = FOREVER) {
        return {*this, to, std::move(question), timeout};
    }

    /// The same for who waits here; other calls' coroutines go on meanwhile.
    template <Sharable Answer, Sharable Question>
    Result<Handle<Answer>> call(Id to, Handle<Question> question, Timeout timeout = FOREVER) {
        std::optional<Result<Handle<Answer>>> answer;
        [](Caller& self, Id server, Handle<Question> asked, Timeout time, auto& into) -> Job {
            into.emplace(co_await self.ask<Answer>(server, std::move(asked), time));
        }(*this, to, std::move(question), timeout, answer);
        while (!answer) {
            const int error = run_once(FOREVER);
            if (error != 0 && !answer) return Result<Handle<Answer>>::failure(error);
        }
        return std::move(*answer);
    }

    /// Until no call waits any more. 0, or an errno that ends all of them: ENOTCONN, ENOTRECOVERABLE...
    int run() {
        int error = 0;
        while (error == 0 && !waiting_.empty()) error = run_once(FOREVER);
        return error;
    }

    /// Waits until one call has ended, at most the time. 0: one has; ETIMEDOUT: none in time; or what ended all of them. A signal handler
    /// ends no wait.
    int run_once(Timeout timeout) {
        const detail::Limit limit(timeout);
        for (;;) {
            // Who is dead, and whose time is over, nobody tells: a look each time that nothing has come for a moment.
            const int left = limit.left();
            const int moment = waiting_.empty() || (left >= 0 && left < LOOK_MS) ? left : LOOK_MS;
            dsm_message message{};
            void* object = dsm_recv_at(mailbox_, DSM_ANY, moment, &message, sizeof message);
            if (object != nullptr) {
                if (settle(message.tag, object, message)) return 0;
                dsm_free(object);  // of a call that has ended
                continue;
            }
            if (errno != ETIMEDOUT && errno != EAGAIN && errno != EINTR) return end_all(errno);
            if (end_hopeless()) return 0;
            if (limit.left() == 0) return ETIMEDOUT;
        }
    }

  private:
    static constexpr int LOOK_MS = 10;

    /// A call that waits: where its coroutine is, and what is to be told to it.
    struct Waiting {
        Id to;
        detail::Limit limit;
        std::coroutine_handle<> coroutine;
        int error = 0;
        void* object = nullptr;
        dsm_message message{};
    };

    explicit Caller(Id mailbox) : mailbox_(mailbox) {}

    /// Goes on with the coroutine whose call that is. False: there is none.
    bool settle(std::uint64_t tag, void* object, const dsm_message& message, int error = 0) {
        const auto found = waiting_.find(tag);
        if (found == waiting_.end()) return false;
        Waiting& call = *found->second;
        waiting_.erase(found);
        call.object = object;
        call.message = message;
        call.error = error;
        call.coroutine.resume();
        return true;
    }
    /// Ends the calls whose time is over or whose server is dead. Whether any has ended, also by an answer that has just come.
    bool end_hopeless() {
        std::vector<std::pair<std::uint64_t, int>> ended;
        std::vector<Id> dead, alive;
        const auto is_in = [](const std::vector<Id>& ids, Id id) {
            return std::find(ids.begin(), ids.end(), id) != ids.end();
        };
        for (const auto& [tag, call] : waiting_) {
            if (call->limit.left() == 0) ended.emplace_back(tag, ETIMEDOUT);
            if (is_in(alive, call->to) || is_in(dead, call->to)) continue;
            dsm_message message{};
            void* object = dsm_recv_at(mailbox_, call->to, 0, &message, sizeof message);
            if (object != nullptr) {
                if (!settle(message.tag, object, message)) dsm_free(object);
                return true;
            }
            (errno == ESRCH ? dead : alive).push_back(call->to);
        }
        for (const auto& [tag, call] : waiting_)
            if (is_in(dead, call->to)) ended.emplace_back(tag, ESRCH);
        for (const auto& [tag, error] : ended) settle(tag, nullptr, {}, error);
        return !ended.empty();
    }
    int end_all(int error) {
        while (!waiting_.empty()) settle(waiting_.begin()->first, nullptr, {}, error);
        return error;
    }

    Id mailbox_;
    std::uint64_t next_ = 1;
    std::unordered_map<std::uint64_t, Waiting*>
        waiting_;  // by the calls' tags; in their coroutines' frames
};

template <Sharable Answer, Sharable Question>
class Caller::Asked {
  public:
    Asked(Caller& caller, Id to, Handle<Question> question, Timeout timeout)
        : caller_(caller), question_(std::move(question)), call_{to,      detail::Limit(timeout),
                                                                 {},      0,
                                                                 nullptr, {}} {}
    Asked(const Asked&) = delete;
    Asked& operator=(const Asked&) = delete;

    bool await_ready() const { return false; }
    bool await_suspend(std::coroutine_handle<> coroutine) {
        const std::uint64_t tag = caller_.next_++;
        const dsm_label label = detail::label_of<Question>(tag);
        if (dsm_send_as(caller_.mailbox_, call_.to, question_.get(), &label, 0, DSM_DROP) != 0) {
            call_.error = errno;
            return false;  // goes on at once
        }
        static_cast<void>(question_.release());
        call_.coroutine = coroutine;
        caller_.waiting_.emplace(tag, &call_);
        return true;
    }
    Result<Handle<Answer>> await_resume() {
        if (call_.error != 0) return Result<Handle<Answer>>::failure(call_.error);
        return detail::as<Answer>(call_.object, call_.message);
    }

  private:
    Caller& caller_;
    Handle<Question> question_;
    Waiting call_;
};

/// Receives one call and answers it with what `handler(const Question&)` makes: a Result<Handle<...>>, whose failure is no answer. Whether it was
/// answered: false: it was another type than Question, the handler failed, or who called has gone. An error: as dsm_recv_at.
template <Sharable Question, class Handler>
Result<bool> serve(Handler&& handler, Timeout timeout = FOREVER, Id mailbox = DSM_ANY) {
    const detail::Limit limit(timeout);
    dsm_message call{};
    void* object = nullptr;
    do {
        object = dsm_recv_at(mailbox, DSM_ANY, limit.left(), &call, sizeof call);
    } while (object == nullptr && errno == EINTR);
    if (object == nullptr) return Result<bool>::failure(errno);
    auto question = detail::as<Question>(object, call);
    if (!question) return false;
    auto answer = handler(std::as_const(**question));
    if (!answer) return false;
    using Answer = std::remove_reference_t<decltype(**answer)>;
    const dsm_label label = detail::label_of<Answer>(call.tag);
    if (dsm_answer(&call, answer->get(), &label, 0, DSM_DROP) != 0) return false;
    static_cast<void>(answer->release());
    return true;
}

}  // namespace aep::dsm
