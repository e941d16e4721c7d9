// Purpose: messages by iceoryx: publishers that wait for slow subscribers; a message is loaned, written in place, published, read
//          where it lies, released. Who sleeps does so in a WaitSet.
// Who calls it: bench/ipc.py, beside an iox-roudi that it has started.
// Crash rule: a measuring program; iox-roudi owns what is shared.
#include <immintrin.h>

#include <iceoryx_posh/popo/untyped_publisher.hpp>
#include <iceoryx_posh/popo/untyped_subscriber.hpp>
#include <iceoryx_posh/popo/wait_set.hpp>
#include <iceoryx_posh/runtime/posh_runtime.hpp>

#include "bench/ipc/launcher.hpp"

namespace {

using namespace aep::bench;
using namespace aep::bench::ipc;

using Name = iox::capro::IdString_t;

template <class String>
String text(const std::string& from) {
    return String(iox::cxx::TruncateToCapacity, from.c_str());
}

struct Iceoryx {
    struct Shared {
        int launcher;  ///< services of one run are its own
    };
    static void make(const Plan&, Shared& shared) { shared.launcher = getpid(); }
    static void unmake(const Plan&, Shared&) {}

    class End {
      public:
        End(const End&) = delete;
        void meet() {}

      protected:
        End(const Plan& plan, Path path) : _polls(plan.polls()), _size(plan.size_of(path)) {
            static const bool once = [] {
                iox::runtime::PoshRuntime::initRuntime(
                    text<iox::RuntimeName_t>("aep-bench-" + std::to_string(getpid())));
                return true;
            }();
            static_cast<void>(once);
        }
        static iox::capro::ServiceDescription service(const Shared& shared, Path path) {
            return {Name("aep"), text<Name>(std::to_string(shared.launcher)),
                    path == Path::FORWARD ? Name("there") : Name("back")};
        }
        const bool _polls;
        const std::size_t _size;
    };

    class Sender : public End {
      public:
        Sender(const Plan& plan, const Shared& shared, Path path, unsigned)
            : End(plan, path), _publisher(service(shared, path), options()) {}
        void send(auto&& write) {
            for (bool sent = false; !sent;) {
                _publisher.loan(static_cast<std::uint32_t>(_size))
                    .and_then([&](void*& message) {
                        write(message);
                        _publisher.publish(message);
                        sent = true;
                    })
                    .or_else([](auto&) { _mm_pause(); });
            }
        }

      private:
        static iox::popo::PublisherOptions options() {
            iox::popo::PublisherOptions made;
            made.subscriberTooSlowPolicy = iox::popo::ConsumerTooSlowPolicy::WAIT_FOR_CONSUMER;
            return made;
        }
        iox::popo::UntypedPublisher _publisher;
    };

    class Receiver : public End {
      public:
        Receiver(const Plan& plan, const Shared& shared, Path path, unsigned)
            : End(plan, path), _subscriber(service(shared, path), options(plan.depth())) {
            if (!_polls)
                expect(!_waiting.attachState(_subscriber, iox::popo::SubscriberState::HAS_DATA)
                            .has_error(),
                       "a WaitSet");
        }
        ~Receiver() { _waiting.detachState(_subscriber, iox::popo::SubscriberState::HAS_DATA); }
        void meet() {
            while (_subscriber.getSubscriptionState() != iox::SubscribeState::SUBSCRIBED)
                usleep(200);
        }
        void receive(auto&& look) {
            for (bool received = false; !received;) {
                _subscriber.take()
                    .and_then([&](const void* message) {
                        look(message);
                        _subscriber.release(message);
                        received = true;
                    })
                    .or_else([&](auto&) {
                        if (_polls)
                            _mm_pause();
                        else
                            _waiting.wait();
                    });
            }
        }

      private:
        static iox::popo::SubscriberOptions options(unsigned depth) {
            iox::popo::SubscriberOptions made;
            made.queueCapacity = depth;
            made.queueFullPolicy = iox::popo::QueueFullPolicy::BLOCK_PRODUCER;
            return made;
        }
        iox::popo::UntypedSubscriber _subscriber;
        iox::popo::WaitSet<> _waiting;
    };
};

}  // namespace

int main(int count, char** words) { return Launcher<Iceoryx>::main(count, words); }
