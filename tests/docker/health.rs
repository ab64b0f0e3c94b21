//! `HEALTHCHECK CMD ["/pilotfish", "health"]`: what the engine shows is what pilotfish's own checks say.

use super::engine::{Container, within};
use super::stop::Config;

#[test]
#[ignore = "needs a Docker engine: make e2e runs it"]
fn the_engines_health_follows_pilotfishs() {
    let config = Config::new(
        r#"
[process]
exec = ["sleep", "60"]
[[health]]
name = "file"
exec = ["test", "-e", "/tmp/well"]
interval = "200ms"
grace = "0s"
failures = 1
"#,
    );
    // --health-cmd runs through the image's shell; the images of docker/ have it without one.
    let options = [
        &*config.mount(),
        "--entrypoint=/pilotfish",
        "--health-cmd=/pilotfish health",
        "--health-interval=300ms",
        "--health-retries=1",
        "--health-timeout=5s",
    ];
    let container = Container::start(&options, "init", &[]);
    within(15, "unhealthy", || (container.health() == "unhealthy").then_some(()));
    assert_eq!(container.exec(&["touch", "/tmp/well"]).0, 0);
    within(15, "healthy", || (container.health() == "healthy").then_some(()));
    let (code, said) = container.exec(&["/pilotfish", "health"]);
    assert_eq!(code, 0, "{said}");
    assert_eq!(container.exec(&["rm", "/tmp/well"]).0, 0);
    within(15, "unhealthy again", || (container.health() == "unhealthy").then_some(()));
    let (code, said) = container.exec(&["/pilotfish", "health"]);
    assert_eq!(code, 1, "{said}");
    assert!(said.contains("file"), "it doesn't say which check: {said}");
}

#[test]
#[ignore = "needs a Docker engine: make e2e runs it"]
fn the_images_of_docker_become_healthy() {
    let web = Container::start(&[], "web", &[]);
    let nginx = Container::start(&[], "nginx", &[]);
    within(20, "web healthy", || (web.health() == "healthy").then_some(()));
    within(20, "nginx healthy", || (nginx.health() == "healthy").then_some(()));
}

#[test]
#[ignore = "needs a Docker engine: make e2e runs it"]
fn a_container_that_can_write_no_socket_becomes_healthy_all_the_same() {
    let config =
        Config::new("[process]\nexec = [\"sleep\", \"60\"]\n[[health]]\nexec = [\"true\"]\ninterval = \"200ms\"\n");
    for denied in ["--user=12345:12345", "--read-only"] {
        let options = [
            denied,
            &*config.mount(),
            "--entrypoint=/pilotfish",
            "--health-cmd=/pilotfish health",
            "--health-interval=300ms",
            "--health-timeout=5s",
        ];
        let container = Container::start(&options, "init", &[]);
        within(15, denied, || (container.health() == "healthy").then_some(()));
    }
}
