//! A demo that goes wrong: what was acknowledged is judged, and the evidence is kept and named.

mod support;

use std::thread;
use std::time::Instant;
use support::{PATIENCE, hotwarm, text_of};

/// Maintenance keeps the warm ones from taking over, so that a round of the demo fails.
#[test]
fn a_demo_without_a_takeover_is_judged_and_keeps_its_folder() {
    let parent = tempfile::tempdir().unwrap();
    let folder = parent.path().canonicalize().unwrap().join("demo");
    let config = folder.join("hotwarm.toml");
    let (folder, config) = (folder.to_str().unwrap(), config.to_str().unwrap());
    let output = thread::scope(|scope| {
        let demo = || hotwarm(&["demo", "--rounds", "100", "--json", "--allow-tmpfs", "--dir", folder]);
        let demo = scope.spawn(demo);
        let began = Instant::now();
        let pause = ["pause", "--for", "1h", "--reason", "a test", "--config", config, "--node", "a"];
        while hotwarm(&pause).status.code() != Some(0) {
            assert!(began.elapsed() < PATIENCE && !demo.is_finished(), "maintenance did not begin");
        }
        demo.join().unwrap()
    });
    assert_eq!(output.status.code(), Some(1), "{}", text_of(&output));
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert!(report["failures"][0].as_str().unwrap().contains("no write was acknowledged"), "{report}");
    assert!(report["acked"].as_u64().unwrap() > 0, "{report}");
    assert_eq!((&report["lost"], &report["nodes_identical"]), (&0.into(), &true.into()), "{report}");
    assert_eq!(report["folder"], folder, "{report}");
    assert!(std::fs::exists(format!("{folder}/a.log")).unwrap());
}
