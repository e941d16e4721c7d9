// Purpose: the sharing operations: how a reference is sent, received, kept and dropped.
// Who calls it: the image's dispatcher on behalf of clients; recovery, through the image, for dead
//               ones.
// Crash rule: inside an operation, which completes or is undone; nothing of the process's own is
//             touched, so another one can do either. The object's memory is never looked at.
//
// Cost of each: one lock, a search among those of the same hash, and among an object's holders;
// no flush, no fence but the lock's, nothing of the pool.
#pragma once

#include "dsm-core/sharing/format.hpp"

namespace aep {

/// Perform the sharing operations (op/share_operations.hpp). Safe from any number of threads, each
/// in a slot of its own.
op::Open::Reply perform(Caller caller, const op::Open& o);
op::Send::Reply perform(Caller caller, const op::Send& o);
op::SendMany::Reply perform(Caller caller, const op::SendMany& o);
op::Receive::Reply perform(Caller caller, const op::Receive& o);
op::ReceiveMany::Reply perform(Caller caller, const op::ReceiveMany& o);
op::Reference::Reply perform(Caller caller, const op::Reference& o);
op::Drop::Reply perform(Caller caller, const op::Drop& o);
op::DropMany::Reply perform(Caller caller, const op::DropMany& o);
op::Query::Reply perform(Caller caller, const op::Query& o);
op::TakeReturned::Reply perform(Caller caller, const op::TakeReturned& o);
op::AddRecords::Reply perform(Caller caller, const op::AddRecords& o);
op::Watch::Reply perform(Caller caller, const op::Watch& o);
op::LookAtPeer::Reply perform(Caller caller, const op::LookAtPeer& o);
op::Settle::Reply perform(Caller caller, const op::Settle& o);
op::Tidy::Reply perform(Caller caller, const op::Tidy& o);
op::OpenInbox::Reply perform(Caller caller, const op::OpenInbox& o);
op::CloseInbox::Reply perform(Caller caller, const op::CloseInbox& o);
op::LimitInbox::Reply perform(Caller caller, const op::LimitInbox& o);
op::Leave::Reply perform(Caller caller, const op::Leave& o);
op::FinishAway::Reply perform(Caller caller, const op::FinishAway& o);
op::MakeGroup::Reply perform(Caller caller, const op::MakeGroup& o);
op::FindGroup::Reply perform(Caller caller, const op::FindGroup& o);
op::ExtendGroup::Reply perform(Caller caller, const op::ExtendGroup& o);
op::SetRoot::Reply perform(Caller caller, const op::SetRoot& o);
op::SetWriter::Reply perform(Caller caller, const op::SetWriter& o);
op::TakeGroup::Reply perform(Caller caller, const op::TakeGroup& o);
op::CountUnknown::Reply perform(Caller caller, const op::CountUnknown& o);
op::OpenTopic::Reply perform(Caller caller, const op::OpenTopic& o);
op::Subscribe::Reply perform(Caller caller, const op::Subscribe& o);
op::Publish::Reply perform(Caller caller, const op::Publish& o);
op::TakePublication::Reply perform(Caller caller, const op::TakePublication& o);
op::CloseTopic::Reply perform(Caller caller, const op::CloseTopic& o);

}  // namespace aep
