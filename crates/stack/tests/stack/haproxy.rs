use std::path::Path;
use std::process::Command;

/// The configuration of compose.yaml: the shared file and the backends by name.
#[test]
fn compose_configuration_is_valid() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let output = Command::new("haproxy")
        .env("HUBBUB_ORIGINS", root.join("haproxy/origins.lst"))
        .args(["-c", "-f"])
        .arg(root.join("haproxy/haproxy.cfg"))
        .arg("-f")
        .arg(root.join("haproxy/compose.cfg"))
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    let complaints: Vec<&str> = said
        .lines()
        .filter(|line| line.contains("[WARNING]") && !line.contains("could not resolve"))
        .collect();
    assert!(complaints.is_empty(), "{complaints:?}");
}
