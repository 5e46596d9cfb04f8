//! Who is alive: beacons and leases, grace and candidacies, suspicion.

mod beacon;
mod candidacy;
mod observed;
mod suspicion;

pub(crate) use candidacy::Candidacy;
pub(crate) use observed::Observed;
pub(crate) use suspicion::Suspicion;
