//! Primary-backup replication over the register. Source: PacificA (Lin et al., MSR-TR-2008-25).

mod commit;
mod divergence;
mod hot;
mod in_sync;
mod log_view;
mod pace;
mod stream;
mod warm;

pub use divergence::last_common;
pub(crate) use hot::{Hot, Phase};
pub(crate) use log_view::LogView;
pub(crate) use stream::Progress;
pub(crate) use warm::Warm;
