//! How unlikely a silence is, learnt from the silences before: phi accrual in integers.
//!
//! phi = -log10 of the probability that a live peer stays silent this long, its intervals taken as normally
//! distributed. It only guards speed and what an operator is shown; what guards safety are the fixed timers.
//! Source: Hayashibara et al., "The phi accrual failure detector", SRDS 2004.

use core::time::Duration;
use hotwarm_types::Instant;

/// phi in tenths by how many quarters of a standard deviation the silence lies above the mean: -10 log10 of the normal
/// distribution's upper tail at 0, 0.25, 0.5 ... 8 sigma. Past the table it grows by the square of the distance.
const PHI_TENTHS: [u32; 33] = [
    3, 4, 5, 6, 8, 10, 12, 14, 16, 19, 22, 25, 29, 32, 36, 41, 45, 50, 55, 60, 65, 71, 77, 83, 89, 96, 103, 110, 117,
    124, 132, 140, 148,
];

/// What is learnt of one peer's beacons.
#[derive(Clone, Debug, Default, Hash)]
pub(crate) struct Suspicion {
    last_at: Option<Instant>,
    mean_us: u64,
    /// Mean absolute deviation, which for a normal distribution is 0.8 of the standard deviation.
    deviation_us: u64,
}

impl Suspicion {
    /// A sign of life came. Averages over about the last 16 intervals.
    pub(crate) fn heard(&mut self, now: Instant) {
        if let Some(last) = self.last_at {
            let interval = micros(now.since(last));
            if self.mean_us == 0 {
                (self.mean_us, self.deviation_us) = (interval, interval / 2);
            }
            let distance = interval.abs_diff(self.mean_us);
            self.mean_us = (self.mean_us * 15 + interval) / 16;
            self.deviation_us = (self.deviation_us * 15 + distance) / 16;
        }
        self.last_at = Some(now);
    }

    /// phi in tenths: 10 means that one in ten such silences is harmless, 80 one in 10^8. 0 before two signs of life.
    pub(crate) fn phi_tenths(&self, now: Instant) -> u32 {
        let Some(last) = self.last_at.filter(|_| self.mean_us > 0) else { return 0 };
        let over = micros(now.since(last)).saturating_sub(self.mean_us);
        // A quarter of the mean at least: a perfectly regular peer must not be suspected for a scheduling delay.
        let sigma_us = (self.deviation_us * 5 / 4).max(self.mean_us / 4).max(1);
        let quarters = (over.saturating_mul(4) / sigma_us).min(1 << 20);
        match usize::try_from(quarters).ok().and_then(|index| PHI_TENTHS.get(index)) {
            Some(phi) => *phi,
            None => u32::try_from(quarters * quarters * 148 / 1024).unwrap_or(u32::MAX),
        }
    }
}

fn micros(length: Duration) -> u64 {
    u64::try_from(length.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn suspicion_grows_with_silence_and_a_nervous_link_is_trusted_longer() {
        let (mut regular, mut nervous) = (Suspicion::default(), Suspicion::default());
        let mut at = (Instant(0), Instant(0));
        for round in 0..100_u64 {
            regular.heard(at.0);
            nervous.heard(at.1);
            at.0 = at.0 + Duration::from_millis(50);
            at.1 = at.1 + Duration::from_millis(if round % 2 == 0 { 5 } else { 95 });
        }
        let after = |s: &Suspicion, ms: u64| s.phi_tenths(s.last_at.unwrap() + Duration::from_millis(ms));
        assert!(after(&regular, 60) < 20, "{}", after(&regular, 60));
        assert!(after(&regular, 300) > 80, "{}", after(&regular, 300));
        assert!(after(&nervous, 150) < after(&regular, 150));
        assert!((1..40).all(|step| after(&regular, step * 25) >= after(&regular, step * 25 - 25)));
    }
}
