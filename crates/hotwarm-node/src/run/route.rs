//! Hands what peers send to whom it concerns.

use crate::announcer::Announcer;
use crate::board::Board;
use crate::event_loop::Core;
use crate::executor::Job;
use crate::queue::Queue;
use crate::snapshot_transfer::Transfers;
use crate::transport::PeerEvent;
use hotwarm_core::Input;
use hotwarm_types::NodeId;
use hotwarm_wire::Frame;
use std::sync::Arc;
use tokio::sync::mpsc;

/// Hands over events in their order, until the transport is gone.
pub(super) async fn route(
    mut events: mpsc::Receiver<PeerEvent>,
    core: Core,
    jobs: Arc<Queue<Job>>,
    transfers: Transfers,
    board: Arc<Board>,
    announcer: Arc<Announcer>,
) {
    let mut batch = Vec::new();
    while events.recv_many(&mut batch, 256).await > 0 {
        for event in batch.drain(..) {
            match event {
                PeerEvent::LinkUp { peer, incarnation } => {
                    core.tell_from_outside(Input::LinkUp { peer, incarnation }).await;
                    jobs.push(Job::LinkUp { peer });
                    announcer.tell(peer);
                }
                PeerEvent::LinkDown { peer } => {
                    core.tell_from_outside(Input::LinkDown { peer }).await;
                    transfers.link_down(peer);
                    jobs.push(Job::LinkDown { peer });
                }
                PeerEvent::Message { from, incarnation, message } => {
                    core.tell_from_outside(Input::Received { from, incarnation, message }).await;
                }
                PeerEvent::Frame { from, frame: Frame::Fronts(fronts) } => board.publish_fronts(from, fronts),
                PeerEvent::Frame { from, frame } => route_frame(from, frame, &jobs, &transfers),
                PeerEvent::JoinAsked { name, folder, .. } => {
                    core.tell_from_outside(Input::JoinAsked { name, folder }).await;
                }
                PeerEvent::DeathAttested { peer, incarnation } => {
                    core.tell_from_outside(Input::DeathAttested { peer, incarnation }).await;
                }
            }
        }
    }
}

fn route_frame(from: NodeId, frame: Frame, jobs: &Queue<Job>, transfers: &Transfers) {
    match frame {
        Frame::Forward { round, payload } => jobs.push(Job::Forwarded { from, round, payload: payload.into() }),
        Frame::ForwardReply { payload, .. } => jobs.push(Job::ForwardReplies { from, payload: payload.into() }),
        Frame::SnapshotChunk { stream, payload, .. } => transfers.chunk(from, stream, payload),
        Frame::SnapshotAck { stream, count, digest } => transfers.acknowledged(from, stream, count, digest),
        Frame::SnapshotHead { stream, snapshot, size_bytes } => transfers.head(from, stream, snapshot, size_bytes),
        // The transport keeps the others to itself.
        Frame::Core(_) | Frame::Hello(_) | Frame::Refusal(_) | Frame::Fronts(_) => {}
    }
}
