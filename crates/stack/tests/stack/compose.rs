//! compose.yaml, as far as it can be judged without an engine.

use serde::Deserialize;
use serde_json::Value;
use std::collections::BTreeMap;
use std::process::Command;

#[derive(Debug, Deserialize)]
struct Compose {
    services: BTreeMap<String, Service>,
    volumes: BTreeMap<String, Option<Value>>,
}

#[derive(Debug, Deserialize)]
struct Service {
    image: String,
    build: Option<String>,
    #[serde(default)]
    depends_on: BTreeMap<String, Dependency>,
    #[serde(default)]
    environment: BTreeMap<String, Value>,
    #[serde(default)]
    volumes: Vec<String>,
    #[serde(default)]
    ports: Vec<String>,
    #[serde(default)]
    command: Vec<String>,
    #[serde(default)]
    profiles: Vec<String>,
    healthcheck: Option<Value>,
}

#[derive(Debug, Deserialize)]
struct Dependency {
    condition: String,
}

const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../..");

fn compose() -> Compose {
    let text = std::fs::read_to_string(format!("{ROOT}/compose.yaml")).unwrap();
    serde_saphyr::from_str(&text).unwrap()
}

#[test]
fn every_dependency_exists_and_can_become_true() {
    let Compose { services, volumes } = compose();
    for (name, service) in &services {
        for (on, dependency) in &service.depends_on {
            let other = services
                .get(on)
                .unwrap_or_else(|| panic!("{name} needs {on}"));
            match dependency.condition.as_str() {
                "service_healthy" => assert!(other.healthcheck.is_some(), "{on} has no check"),
                "service_completed_successfully" => assert_eq!(on, "init"),
                other => panic!("{name} waits for {other}"),
            }
        }
        for volume in &service.volumes {
            let source = volume.split(':').next().unwrap();
            let known = source.starts_with("./") || volumes.contains_key(source);
            assert!(known, "{name} mounts {volume}");
        }
    }
}

#[test]
fn images_are_pinned_and_ports_stay_on_loopback() {
    for (name, service) in compose().services {
        let tag = service.image.split_once(':').map(|(_, tag)| tag);
        assert!(
            tag.is_some_and(|tag| tag != "latest"),
            "{name}: {}",
            service.image
        );
        assert_eq!(
            service.build.is_some(),
            service.image == "hubbub:local",
            "{name}"
        );
        for port in service.ports {
            assert!(port.starts_with("127.0.0.1:"), "{name}: {port}");
        }
        let lasting = name != "init" && service.profiles.is_empty();
        assert_eq!(lasting, service.healthcheck.is_some(), "{name}");
    }
}

/// The names and ports in haproxy/compose.cfg are those of the services here.
#[test]
fn haproxy_knows_every_edge_and_api_server() {
    let haproxy = std::fs::read_to_string(format!("{ROOT}/haproxy/compose.cfg")).unwrap();
    let mut servers: Vec<(String, String)> = Vec::new();
    for line in haproxy.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        if let ["server", name, addr] = words[..] {
            let (host, port) = addr.split_once(':').unwrap();
            assert_eq!(host, name);
            servers.push((name.to_owned(), port.to_owned()));
        }
    }
    let mut expected = Vec::new();
    for (name, service) in compose().services {
        let program = service.command.first().map_or("", String::as_str);
        if program == "hubbub-edge-server" || program == "hubbub-api-server" {
            assert_eq!(service.environment["HUBBUB_POD_ID"], *name);
            assert_eq!(service.environment["HUBBUB_OPS_ADDR"], "0.0.0.0:9100");
            let listen = service.environment["HUBBUB_LISTEN"].as_str().unwrap();
            let port = listen.strip_prefix("0.0.0.0:").unwrap();
            expected.push((name, port.to_owned()));
        }
    }
    servers.sort();
    expected.sort();
    assert_eq!(servers, expected);
    assert_eq!(servers.len(), 4);
}

/// A new data volume gets an id of its own; one that has an id keeps it.
#[test]
fn kafka_volume_has_a_cluster_id_of_its_own() {
    let data = tempfile::tempdir().unwrap();
    let script = compose().services["kafka"].command[2]
        .replace("$$", "$")
        .replace("/var/lib/kafka/data", data.path().to_str().unwrap())
        .replace("/etc/kafka/docker/run", "printenv CLUSTER_ID");
    let start = || {
        let output = Command::new("bash")
            .args(["-euc", &script])
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    };
    let (first, other) = (start(), start());
    assert_ne!(first, other);
    for id in [&first, &other] {
        // 16 bytes in base64; Kafka takes them without padding.
        assert_eq!(id.len(), 22, "{id}");
        assert!(id.bytes().all(|b| b.is_ascii_alphanumeric()), "{id}");
    }
    let made = format!("#\nnode.id=1\ndirectory.id=x\nversion=1\ncluster.id={first}\n");
    std::fs::write(data.path().join("meta.properties"), made).unwrap();
    assert_eq!(start(), first);
}

/// A check every few seconds must not cost a JVM.
#[test]
fn kafka_is_checked_without_a_tool_of_its_own() {
    let check = compose().services["kafka"].healthcheck.clone().unwrap();
    assert!(!check["test"].to_string().contains("/opt/kafka"), "{check}");
}
