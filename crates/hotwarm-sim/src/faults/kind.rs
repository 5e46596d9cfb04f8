//! The kinds of faults, how often each is drawn, and which rows of the fault matrix they stand for.

/// A kind of fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[expect(missing_docs, reason = "each variant is described by `about`")]
pub enum FaultKind {
    CrashAttested,
    CrashUnattested,
    PowerLoss,
    PowerLossAll,
    RestartStorm,
    Pause,
    CutOneWay,
    CutPair,
    Isolate,
    Split,
    Ring,
    Bridge,
    PartialPartition,
    Flap,
    Hold,
    Reset,
    SlowLink,
    LossyLink,
    SlowDisk,
    StallDisk,
    FailDisk,
    FullDisk,
    BitRot,
    MisdirectedWrite,
    Wipe,
    Rollback,
    ClientCut,
    WallJump,
    ClockRate,
}

impl FaultKind {
    /// All kinds.
    pub const ALL: [Self; 29] = [
        Self::CrashAttested,
        Self::CrashUnattested,
        Self::PowerLoss,
        Self::PowerLossAll,
        Self::RestartStorm,
        Self::Pause,
        Self::CutOneWay,
        Self::CutPair,
        Self::Isolate,
        Self::Split,
        Self::Ring,
        Self::Bridge,
        Self::PartialPartition,
        Self::Flap,
        Self::Hold,
        Self::Reset,
        Self::SlowLink,
        Self::LossyLink,
        Self::SlowDisk,
        Self::StallDisk,
        Self::FailDisk,
        Self::FullDisk,
        Self::BitRot,
        Self::MisdirectedWrite,
        Self::Wipe,
        Self::Rollback,
        Self::ClientCut,
        Self::WallJump,
        Self::ClockRate,
    ];

    /// How often it is drawn, against the others.
    #[must_use]
    pub fn weight(self) -> u64 {
        match self {
            Self::CrashAttested | Self::Isolate | Self::CutPair | Self::CutOneWay => 12,
            Self::CrashUnattested | Self::Pause | Self::PartialPartition | Self::Hold => 10,
            Self::PowerLoss | Self::Reset | Self::StallDisk | Self::Wipe | Self::Rollback => 6,
            Self::SlowLink | Self::LossyLink | Self::SlowDisk | Self::ClientCut | Self::Split | Self::Flap => 5,
            Self::PowerLossAll | Self::FailDisk | Self::FullDisk | Self::Ring | Self::Bridge => 3,
            Self::BitRot | Self::MisdirectedWrite | Self::RestartStorm => 3,
            Self::WallJump | Self::ClockRate => 2,
        }
    }

    /// Its name in reports.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::CrashAttested => "crash_attested",
            Self::CrashUnattested => "crash_unattested",
            Self::PowerLoss => "power_loss",
            Self::PowerLossAll => "power_loss_all",
            Self::RestartStorm => "restart_storm",
            Self::Pause => "pause",
            Self::CutOneWay => "cut_one_way",
            Self::CutPair => "cut_pair",
            Self::Isolate => "isolate",
            Self::Split => "split",
            Self::Ring => "ring",
            Self::Bridge => "bridge",
            Self::PartialPartition => "partial_partition",
            Self::Flap => "flap",
            Self::Hold => "hold",
            Self::Reset => "reset",
            Self::SlowLink => "slow_link",
            Self::LossyLink => "lossy_link",
            Self::SlowDisk => "slow_disk",
            Self::StallDisk => "stall_disk",
            Self::FailDisk => "fail_disk",
            Self::FullDisk => "full_disk",
            Self::BitRot => "bit_rot",
            Self::MisdirectedWrite => "misdirected_write",
            Self::Wipe => "wipe",
            Self::Rollback => "rollback",
            Self::ClientCut => "client_cut",
            Self::WallJump => "wall_jump",
            Self::ClockRate => "clock_rate",
        }
    }

    /// What happens, and the row of the fault matrix.
    #[must_use]
    pub fn about(self) -> &'static str {
        match self {
            Self::CrashAttested => "the process dies, and its guardian tells whom it can reach (F1, F2)",
            Self::CrashUnattested => "the process dies, and its guardian with it (F1, F2)",
            Self::PowerLoss => "a machine goes dark; of what was not synced, any part survives (F4, F15)",
            Self::PowerLossAll => "all machines go dark (F4)",
            Self::RestartStorm => "a process dies again and again (F21)",
            Self::Pause => "the process is stopped for up to some graces, and goes on (F5)",
            Self::CutOneWay => "nothing passes from one machine to another (F8)",
            Self::CutPair => "nothing passes between two machines (F7, F9)",
            Self::Isolate => "one machine is cut off from all others, and some clients with it (F7)",
            Self::Split => "the machines fall into two parts (F7)",
            Self::Ring => "each machine reaches its two neighbours only (F9)",
            Self::Bridge => "two parts that only one machine reaches both of (F9)",
            Self::PartialPartition => "each direction between any two machines fails with a chance of a third (F8, F9)",
            Self::Flap => "a link comes and goes (F24)",
            Self::Hold => "what is on its way arrives much later, on a connection that never broke (F11)",
            Self::Reset => "a middle box resets a connection (F11)",
            Self::SlowLink => "a link is slow (F10)",
            Self::LossyLink => "a link loses packets, which shows as delay (F10)",
            Self::SlowDisk => "syncs take many times as long (F12)",
            Self::StallDisk => "no order to the disk is done for a while (F12)",
            Self::FailDisk => "a write or a sync fails, once or until the disk is mended (F14)",
            Self::FullDisk => "the disk is full (F13)",
            Self::BitRot => "a bit of the vote record or the log turns over, while others hold everything (F16)",
            Self::MisdirectedWrite => "a write lands in another place of the file, while others hold everything (F15)",
            Self::Wipe => "a machine goes dark and comes back with an empty disk, while others hold everything (F17)",
            Self::Rollback => {
                "a machine goes dark and comes back with an older disk, while others hold everything (F17)"
            }
            Self::ClientCut => "clients do not reach a machine (F11)",
            Self::WallJump => "the wall clock jumps (F6)",
            Self::ClockRate => "a clock runs at another rate within the bound (F6)",
        }
    }

    /// The kind of that name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }
}
