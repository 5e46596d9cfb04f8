//! The checks by name: every scene of the register and of the group.

use crate::explore::{Limits, Report, explore};
use crate::group::{self, Group};
use crate::mistakes::Mistake;
use crate::register::{self, Register};

/// A scene of one of the two models.
#[derive(Clone, Copy, Debug)]
pub enum Scene {
    /// Of the register alone.
    Register(&'static register::Scene),
    /// Of two data nodes and a witness.
    Group(&'static group::Scene),
}

impl Scene {
    /// All of them.
    pub fn all() -> impl Iterator<Item = Self> {
        let register = register::SCENES.iter().map(Self::Register);
        register.chain(group::SCENES.iter().map(Self::Group))
    }

    /// The scene of that name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::all().find(|scene| scene.name() == name)
    }

    /// Its name on the command line.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Register(scene) => scene.name,
            Self::Group(scene) => scene.name,
        }
    }

    /// The model it belongs to.
    #[must_use]
    pub fn model(self) -> &'static str {
        match self {
            Self::Register(_) => "register",
            Self::Group(_) => "group",
        }
    }

    /// What happens in it, for a person.
    #[must_use]
    pub fn about(self) -> &'static str {
        match self {
            Self::Register(scene) => scene.about,
            Self::Group(scene) => scene.about,
        }
    }

    /// How much may happen in it, in words.
    #[must_use]
    pub fn bound(self) -> String {
        let counted = match self {
            Self::Register(scene) => scene.budget.counted().to_vec(),
            Self::Group(scene) => scene.budget.counted().to_vec(),
        };
        let counted = counted.into_iter().filter(|(count, _)| *count > 0);
        let words: Vec<String> = counted.map(|(count, what)| format!("{count} {what}")).collect();
        if words.is_empty() { "no faults".to_owned() } else { words.join(", ") }
    }

    /// Visits its states.
    #[must_use]
    pub fn check(self, mistake: Option<Mistake>, limits: Limits) -> Report {
        match self {
            Self::Register(scene) => explore(&mut Register::new(scene, mistake), limits),
            Self::Group(scene) => explore(&mut Group::new(scene, mistake), limits),
        }
    }
}
