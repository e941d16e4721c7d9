// Purpose: the functions of the workflow, each a process that is there before it is called: a leader that makes the graph and has
//          the result, a divider, workers, a merger between their steps.
// Who calls it: pagerank.hpp.
// Crash rule: any but the leader may be killed. Whoever takes its place says hello and is told what the dead one had been
//             told: a divider the graph, a worker its part and the step, a merger the job, which it begins anew under
//             another life; letters of the former life are not looked at.
#pragma once

#include "apps/pagerank/letters.hpp"

namespace aep::apps::pagerank {

/// The pieces of one step, as they come.
template <class Held>
class Pieces {
  public:
    explicit Pieces(const Shape& shape) : shape_(shape), held_(shape.pieces()) {}
    void clear() {
        for (Held& piece : held_) piece = Held();
        here_ = 0;
    }
    /// A piece that is here already is the same once more.
    void add(Held piece) {
        const std::uint32_t number = piece->piece;
        verify(number < held_.size() && piece->count == shape_.in_piece(number),
               "pagerank: a piece is not what it says");
        if (!held_[number]) {
            held_[number] = std::move(piece);
            ++here_;
        }
    }
    void swap(Pieces& other) {
        held_.swap(other.held_);
        std::swap(here_, other.here_);
    }
    bool is_whole() const { return here_ == held_.size(); }
    std::vector<Held>& all() { return held_; }

  private:
    const Shape& shape_;
    std::vector<Held> held_;
    std::size_t here_ = 0;
};

template <Transport T>
class Leader : Member<T> {
    using Base = Member<T>;
    using Held = typename Base::Held;

  public:
    using Base::Base;

    /// The time of each job, ns.
    std::vector<double> run() {
        std::vector<double> jobs;
        while (jobs.size() < this->options_.jobs || this->board_.kills.load() != 0) {
            ++job_;
            const double begin = now_ns();
            begin_job();
            wait_for_result();
            jobs.push_back(now_ns() - begin);
            check();
        }
        graph_ = Held();
        ranks_.clear();
        this->board_.over = 1;
        this->report();
        return jobs;
    }

  private:
    void begin_job() {
        ranks_.clear();
        graph_ = this->write_nodes(Kind::graph, nodes_of_graph(this->shape_),
                                   [&](auto&& make) { return build_graph(this->shape_, make); });
        graph_->job = job_;
        this->send_now(DIVIDER, graph_);
        send_job();
    }
    void send_job() {
        Held letter = this->write(Kind::job);
        letter->job = job_;
        this->send_now(MERGER, letter);
    }
    void wait_for_result() {
        while (!ranks_.is_whole()) {
            auto letter = this->next();
            verify(letter.has_value(), "pagerank: it is over too early");
            Held& l = *letter;
            if (l->kind == Kind::hello && this->is_new_life(l))
                tell(l->member);
            else if (l->kind == Kind::piece && l->job == job_)
                ranks_.add(std::move(l));
        }
    }
    /// The job, as far as it is that member's.
    void tell(unsigned member) {
        if (member == MERGER)
            send_job();
        else
            this->send(DIVIDER, graph_);
    }
    void check() {
        if (right_.empty())
            right_ = reckon_alone(this->shape_, graph_->nodes.first, this->options_.steps);
        auto right = right_.begin();
        for (Held& piece : ranks_.all()) {
            verify(std::equal(right, right + piece->count, piece->numbers()),
                   "pagerank: the ranks are wrong");
            right += piece->count;
        }
    }

    std::uint32_t job_ = 0;
    Held graph_;
    Pieces<Held> ranks_{this->shape_};
    std::vector<double> right_;
};

template <Transport T>
class Divider : Member<T> {
    using Base = Member<T>;
    using Held = typename Base::Held;

  public:
    using Base::Base;

    void run() {
        this->say_hello(LEADER);
        while (auto letter = this->next()) {
            Held& l = *letter;
            if (l->kind == Kind::graph)
                divide(l);
            else if (l->kind == Kind::hello && this->is_new_life(l) && !parts_.empty())
                this->send(l->member, part_of(l->member));
        }
        parts_.clear();
        this->report();
    }

  private:
    Held& part_of(unsigned worker) {
        verify(worker >= FIRST_WORKER, "pagerank: nobody else has a part");
        return parts_[worker - FIRST_WORKER];
    }
    void divide(Held& graph) {
        parts_.clear();
        Node* list = graph->nodes.first;
        const Shape& shape = this->shape_;
        for (std::uint32_t i = 0; i < this->options_.workers; ++i) {
            const std::uint32_t vertices =
                shape.begin_of(shape.first_of(i + 1, this->options_.workers)) -
                shape.begin_of(shape.first_of(i, this->options_.workers));
            parts_.push_back(this->write_nodes(
                Kind::part, count_nodes(list, vertices),
                [&](auto&& make) { return copy_vertices(list, vertices, make); }));
            parts_.back()->job = graph->job;
            this->send_now(FIRST_WORKER + i, parts_.back());
        }
    }

    std::vector<Held> parts_;  // of the job under way; a worker's successor gets its
};

template <Transport T>
class Worker : Member<T> {
    using Base = Member<T>;
    using Held = typename Base::Held;

  public:
    using Base::Base;

    void run() {
        this->say_hello(DIVIDER);
        this->say_hello(MERGER);
        while (auto letter = this->next()) {
            take(*letter);
            if (step_ && !done_ && part_ && part_->job == step_->job &&
                (step_->step == 0 || before_.is_whole()))
                work();
        }
        part_ = Held();
        step_ = Held();
        before_.clear();
        this->report();
    }

  private:
    void take(Held& letter) {
        if (letter->kind == Kind::part) {
            part_ = std::move(letter);
        } else if (letter->kind == Kind::step) {
            const bool again = step_ && step_->life == letter->life && step_->job == letter->job &&
                               step_->step == letter->step;
            if (again || (step_ && letter->life < step_->life)) return;
            step_ = std::move(letter);
            before_.clear();
            done_ = false;
        } else if (letter->kind == Kind::piece && step_ && letter->life == step_->life &&
                   letter->job == step_->job && letter->step + 1 == step_->step) {
            before_.add(std::move(letter));
        }
    }
    void work() {
        const Shape& shape = this->shape_;
        Shares shares;
        if (step_->step != 0)
            for (Held& piece : before_.all()) shares.push_back(piece->numbers());
        const Step step{step_->step == 0 ? nullptr : &shares, step_->stranded,
                        step_->step == this->options_.steps};
        const std::uint32_t part = this->me_ - FIRST_WORKER;
        const std::uint32_t end = shape.first_of(part + 1, this->options_.workers);
        Node* list = part_->nodes.first;
        for (std::uint32_t number = shape.first_of(part, this->options_.workers); number < end;
             ++number) {
            Held piece = this->write(Kind::piece, shape.in_piece(number));
            piece->job = step_->job;
            piece->step = step_->step;
            piece->life = step_->life;
            piece->piece = number;
            const double begin = now_ns();
            piece->stranded = reckon(shape, step, list, piece->count, piece->numbers());
            this->spent_.reckoning += now_ns() - begin;
            this->send_now(MERGER, piece);
        }
        done_ = true;
    }

    Held part_;
    Held step_;  // the step to do
    bool done_ = false;
    Pieces<Held> before_{this->shape_};  // of the step before
};

template <Transport T>
class Merger : Member<T> {
    using Base = Member<T>;
    using Held = typename Base::Held;

  public:
    using Base::Base;

    void run() {
        this->say_hello(LEADER);
        while (auto letter = this->next()) {
            Held& l = *letter;
            if (l->kind == Kind::job && l->job > job_) {
                job_ = l->job;
                begin_step(0, 0);
            } else if (l->kind == Kind::hello) {
                if (this->is_new_life(l) && step_) tell(l->member);
            } else if (l->kind == Kind::piece && l->life == life_ && l->job == job_ && step_ &&
                       l->step == step_->step) {
                after_.add(std::move(l));
                if (after_.is_whole()) end_step();
            }
        }
        step_ = Held();
        before_.clear();
        after_.clear();
        this->report();
    }

  private:
    void begin_step(std::uint32_t number, double stranded) {
        before_.swap(after_);
        after_.clear();
        if (number == 0) before_.clear();
        step_ = this->write(Kind::step);
        step_->job = job_;
        step_->step = number;
        step_->life = life_;
        step_->stranded = stranded;
        step_->sent = now_ns();
        for (unsigned i = 0; i < this->options_.workers; ++i) tell(FIRST_WORKER + i);
    }
    /// The step, and what is needed for it.
    void tell(unsigned worker) {
        this->send(worker, step_);
        if (step_->step == 0) return;
        for (Held& piece : before_.all()) this->send(worker, piece);
    }
    void end_step() {
        double stranded = 0;
        for (Held& piece : after_.all()) stranded += piece->stranded;
        if (step_->step != this->options_.steps) return begin_step(step_->step + 1, stranded);
        for (Held& piece : after_.all()) this->send(LEADER, piece);
        step_ = Held();
        after_.clear();
    }

    const std::uint64_t life_ = static_cast<std::uint64_t>(now_ns());
    std::uint32_t job_ = 0;
    Held step_;  // under way; none: no job is
    Pieces<Held> before_{this->shape_};
    Pieces<Held> after_{this->shape_};
};

}  // namespace aep::apps::pagerank
