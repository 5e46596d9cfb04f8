//! The numbers of the core's messages. A number, once given, is never given to another message.

use crate::codec::{DecodeError, Reader, Wire, choice};
use hotwarm_core::{Grant, Message};

choice!(Grant, "answer to a beacon" { 1 = Granted, 2 = Heard, 3 = Deposed });

choice!(Message, "message" {
    1 = Hello(claims),
    2 = HelloPassed { version },
    3 = HelloRefused { remembered },

    10 = Prepare { ballot, members_version },
    11 = Promise { ballot, accepted },
    12 = Accept { ballot, members_version, state },
    13 = Accepted { ballot },
    14 = Refused { ballot, promised, newer },
    15 = Announce { state },
    16 = AskState { version },

    30 = Beacon { epoch, incarnation, seq, lease, version, committed, echo, stalled },
    31 = BeaconAnswer { epoch, incarnation, seq, grant, version, leaving },
    32 = Poll { candidacy, epoch },
    33 = PollAnswer { candidacy, epoch, end, hears_hot, version, leaving },
    34 = Verify { epoch, incarnation, round },
    35 = Verified { epoch, incarnation, round },
    36 = Goodbye { epoch },

    50 = OpenStream { epoch, incarnation, stream },
    51 = StreamOpened { epoch, incarnation, stream, epochs, end, committed },
    52 = Append { epoch, incarnation, stream, prev, block, committed },
    53 = Ack { epoch, incarnation, stream, durable },
    54 = Commit { epoch, incarnation, stream, committed },
    55 = OfferSnapshot { epoch, incarnation, stream, at, epochs },
    56 = SnapshotWanted { epoch, incarnation, stream },
});
