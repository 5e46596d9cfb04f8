//! The check itself, in small: the near part of each scene is without a violation, the same in every run, and the mistakes
//! that are near are found with a story. The whole is `cargo xtask model` and `cargo xtask model --mutants`.

use hotwarm_model::{Limits, Mistake, Scene};

fn limits(states: u64) -> Limits {
    Limits { states, depth: u32::MAX }
}

#[test]
fn the_near_part_of_each_scene_breaks_no_rule() {
    for scene in Scene::all() {
        let report = scene.check(None, limits(1_500));
        assert_eq!(report.violation, None, "{}", scene.name());
        assert!(report.states >= 1_500 && report.depth >= 3, "{}: {report:?}", scene.name());
        assert!(report.transitions > report.states, "orders of one state meet again: {report:?}");
    }
}

#[test]
fn the_same_scene_is_visited_alike_in_every_run() {
    for name in ["rivals", "storm"] {
        let scene = Scene::named(name).unwrap();
        let figures = [scene.check(None, limits(2_000)), scene.check(None, limits(2_000))]
            .map(|report| (report.states, report.transitions, report.depth));
        assert_eq!(figures[0], figures[1], "{name}");
    }
}

#[test]
fn small_scenes_are_visited_whole() {
    for name in ["swap", "relay", "calm"] {
        let report = Scene::named(name).unwrap().check(None, limits(100_000));
        assert!(report.complete && report.violation.is_none(), "{name}: {report:?}");
    }
}

#[test]
fn a_depth_is_a_bound() {
    let report = Scene::named("duel").unwrap().check(None, Limits { states: u64::MAX, depth: 5 });
    assert_eq!((report.depth, report.complete), (5, false));
}

#[test]
fn near_mistakes_are_found_with_the_shortest_story() {
    let near = [
        (Mistake::HalfIsEnough, 5),
        (Mistake::VoteForgotten, 1),
        (Mistake::LogReportedEarly, 2),
        (Mistake::VoteReportedEarly, 3),
        (Mistake::AcknowledgedForOthers, 3),
        (Mistake::TailDropped, 6),
    ];
    for (mistake, steps) in near {
        let report = Scene::named(mistake.scene()).unwrap().check(Some(mistake), limits(5_000));
        let (violation, story) = report.violation.unwrap_or_else(|| panic!("{mistake:?} is not found"));
        assert!(mistake.caught_by().contains(&violation.rule), "{mistake:?}: {violation:?}");
        assert_eq!(story.len(), steps, "{mistake:?}: {story:?}");
    }
}

#[test]
fn every_mistake_has_a_name_and_a_scene() {
    for mistake in Mistake::ALL {
        assert_eq!(Mistake::named(&mistake.name()), Some(mistake));
        assert!(Scene::named(mistake.scene()).is_some() && !mistake.about().is_empty());
    }
    let names: std::collections::BTreeSet<&str> = Scene::all().map(Scene::name).collect();
    assert_eq!(names.len(), Scene::all().count(), "two scenes have one name");
}
