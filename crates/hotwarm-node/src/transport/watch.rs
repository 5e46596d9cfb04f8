//! Guardians' connections to the peer port, and what they prove (R20).
//!
//! A guardian says at once which process it watches and then keeps silent until that process is dead. Its connection
//! is no node's: it costs one task and a buffer of 96 bytes, and there are at most [`WATCHES_MAX`] for one member: one
//! more pushes out the oldest. What counts is the secret, whose digest the node itself gave on an authenticated
//! connection; who knows the secret has it from the guardian, whatever way it came. All that is ever answered is one
//! byte, once the end of that process is known here; without it the guardian tries again.

use super::peer::Proof;
use super::{PeerEvent, Shared};
use crate::transport::stream::ReadError;
use hotwarm_types::FolderId;
use hotwarm_wire::{DeathFrame, DeathNotice};
use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::AbortHandle;

/// Guardians' connections that are kept for one member: its own, and what a broken network may leave behind.
const WATCHES_MAX: usize = 4;

/// The guardians' connections that stand.
#[derive(Debug, Default)]
pub(super) struct Watches {
    tasks: Mutex<BTreeMap<FolderId, VecDeque<AbortHandle>>>,
}

impl Watches {
    fn enter(&self, folder: FolderId, task: AbortHandle) {
        let mut tasks = self.tasks.lock().unwrap_or_else(PoisonError::into_inner);
        tasks.retain(|_, watches| {
            watches.retain(|watch| !watch.is_finished());
            !watches.is_empty()
        });
        let watches = tasks.entry(folder).or_default();
        if watches.len() >= WATCHES_MAX
            && let Some(oldest) = watches.pop_front()
        {
            oldest.abort();
        }
        watches.push_back(task);
    }

    /// Ends them all.
    pub(super) fn close(&self) {
        let tasks = std::mem::take(&mut *self.tasks.lock().unwrap_or_else(PoisonError::into_inner));
        tasks.values().flatten().for_each(AbortHandle::abort);
    }
}

/// Reads whom a guardian watches.
pub(super) async fn read_notice(stream: &mut (impl AsyncRead + Unpin)) -> Result<DeathNotice, ReadError> {
    let mut bytes = [0; DeathNotice::SIZE_BYTES];
    stream.read_exact(&mut bytes).await.map_err(ReadError::Io)?;
    Ok(DeathNotice::decode(&bytes)?)
}

/// Keeps a guardian's connection, if it watches a member.
pub(super) fn keep(shared: &Arc<Shared>, notice: DeathNotice, stream: TcpStream) {
    let me = &shared.identity;
    let is_ours = notice.cluster == me.cluster && notice.group == me.group;
    if !is_ours || shared.find(|peer| peer.folder == notice.folder).is_none() {
        tracing::debug!(folder = %notice.folder, "a guardian of no member was turned away");
        return;
    }
    let task = tokio::spawn(await_proof(Arc::clone(shared), notice, stream)).abort_handle();
    shared.watches.enter(notice.folder, task);
}

/// Waits for the secret. The end of the connection without it means nothing.
async fn await_proof(shared: Arc<Shared>, notice: DeathNotice, mut stream: TcpStream) {
    let mut bytes = [0; DeathFrame::SIZE_BYTES];
    let (head, proof) = bytes.split_at_mut(DeathNotice::SIZE_BYTES);
    head.copy_from_slice(&notice.encode());
    if stream.read_exact(proof).await.is_err() {
        return;
    }
    let frame = match DeathFrame::decode(&bytes) {
        Ok(frame) => frame,
        Err(error) => return tracing::warn!(folder = %notice.folder, %error, "a proof of death was refused"),
    };
    let Some(peer) = shared.find(|peer| peer.folder == notice.folder) else { return };
    let incarnation = notice.incarnation;
    // Room first: a proof counts once, and this task may be ended wherever it waits.
    let Ok(room) = shared.events.reserve().await else { return };
    match peer.prove_death(incarnation, &frame.secret) {
        Proof::Holds => room.send(PeerEvent::DeathAttested { peer: peer.id, incarnation }),
        Proof::Known => tracing::debug!(peer = %peer.name, %incarnation, "a death that is known was attested again"),
        Proof::Unmet => {
            let text =
                format!("node {:?} was attested dead, in a start other than the one that was met here", peer.name);
            if shared.refusals.is_news(&text, Instant::now()) {
                tracing::info!(%incarnation, "{text}");
            }
            return;
        }
        Proof::Wrong => {
            let text = format!("a proof that node {:?} is dead was refused: its secret is wrong", peer.name);
            if shared.refusals.is_news(&text, Instant::now()) {
                tracing::warn!(%incarnation, "{text}");
            }
            return;
        }
    }
    // A guardian that is gone already needs no answer.
    let _ = stream.write_all(&[DeathFrame::TAKEN]).await;
}
