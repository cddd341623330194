//! Who may depend on whom, read from the manifests by Cargo itself.

use serde_json::Value;
use std::collections::BTreeMap;
use std::process::Command;

/// One crate hides each driver.
const DRIVERS: [(&str, &str); 3] = [
    ("redis", "hubbub-bus"),
    ("rdkafka", "hubbub-log"),
    ("sqlx", "hubbub-store"),
];
/// None of these knows another one of them.
const HIDING: [&str; 3] = ["hubbub-bus", "hubbub-log", "hubbub-store"];
const PROGRAMS: [&str; 5] = [
    "hubbub-edge-server",
    "hubbub-api-server",
    "hubbub-consumer",
    "hubbub-cli",
    "hubbub-e2e",
];

/// The direct dependencies of every package of the workspace, those of its tests apart.
struct Manifest {
    normal: Vec<String>,
    tests: Vec<String>,
}

fn manifests() -> BTreeMap<String, Manifest> {
    let output = Command::new(env!("CARGO"))
        .args([
            "metadata",
            "--format-version",
            "1",
            "--no-deps",
            "--offline",
            "--manifest-path",
        ])
        .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/../../Cargo.toml"))
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    let metadata: Value = serde_json::from_slice(&output.stdout).unwrap();
    let packages = metadata["packages"].as_array().unwrap();
    assert!(packages.len() >= 10, "{} packages", packages.len());
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let manifest = |package: &Value| {
        let dependencies = package["dependencies"].as_array().unwrap();
        let of_kind = |tests: bool| {
            let wanted = dependencies
                .iter()
                .filter(|d| (d["kind"] == "dev") == tests);
            wanted.map(|d| text(&d["name"])).collect()
        };
        Manifest {
            normal: of_kind(false),
            tests: of_kind(true),
        }
    };
    packages
        .iter()
        .map(|p| (text(&p["name"]), manifest(p)))
        .collect()
}

#[test]
fn each_driver_is_hidden_by_one_crate() {
    for (package, manifest) in manifests() {
        for (driver, owner) in DRIVERS {
            let uses = manifest
                .normal
                .iter()
                .chain(&manifest.tests)
                .any(|d| d == driver);
            assert!(
                !uses || package == owner,
                "{package} depends on {driver}: use {owner}"
            );
        }
    }
}

#[test]
fn bus_log_and_store_do_not_know_each_other() {
    let manifests = manifests();
    for package in HIDING {
        let uses = manifests[package]
            .normal
            .iter()
            .find(|d| HIDING.contains(&d.as_str()));
        assert_eq!(uses, None, "{package}");
    }
}

#[test]
fn nothing_depends_on_a_program_and_protocol_on_nothing_of_ours() {
    for (package, manifest) in manifests() {
        let program = manifest
            .normal
            .iter()
            .find(|d| PROGRAMS.contains(&d.as_str()));
        assert_eq!(program, None, "{package}");
        let ours = manifest.normal.iter().find(|d| d.starts_with("hubbub-"));
        if package == "hubbub-protocol" || package == "hubbub-stack" {
            assert_eq!(ours, None, "{package}");
        }
    }
}
