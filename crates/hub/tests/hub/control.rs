//! The socket of the command line.

use std::os::unix::fs::PermissionsExt as _;

use cordon_hub::control::{Answer, Request, ask};
use cordon_hub::view::AssignmentDraft;
use cordon_hub::view::Ordered;
use cordon_link::token::EnrolToken;
use cordon_model::asset::ClinicalTier;
use cordon_model::measure::Isolation;
use cordon_model::policy::Mode;
use cordon_store::Role;

use super::support::{Machine, Site};

#[tokio::test(flavor = "multi_thread")]
async fn the_command_line_can_do_what_a_hub_needs_from_its_first_minute() {
    let site = Site::start().await;
    let socket = site.control();
    let mode = std::fs::metadata(&socket).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let draft = AssignmentDraft { tier: Some(ClinicalTier::None), ..AssignmentDraft::default() };
    let request = Request::CreateEnrolToken { draft: draft.clone(), good_for_seconds: 60 };
    let Answer::Secret(token) = ask(&socket, &request).await.unwrap() else { panic!() };
    let token: EnrolToken = token.parse().unwrap();
    let mut machine = Machine::enrol(&token, "office-1").await.unwrap();
    machine.connect().await.unwrap();

    let draft = AssignmentDraft { name: Some("Front desk".into()), ..draft };
    let request = Request::SetAssignment { machine: "office-1".into(), draft };
    assert_eq!(ask(&socket, &request).await.unwrap(), Answer::Done);
    assert_eq!(ask(&socket, &Request::SetMode(Mode::Act)).await.unwrap(), Answer::Done);
    let Answer::Machines { rows, total } = ask(&socket, &Request::ListMachines).await.unwrap()
    else {
        panic!()
    };
    assert_eq!((rows[0].name.as_str(), total), ("Front desk", 1));

    let request = Request::Isolate {
        machine: "Front desk".into(),
        isolation: Isolation::Full,
        reason: "worm".into(),
    };
    let answer = ask(&socket, &request).await.unwrap();
    assert!(
        matches!(answer, Answer::Ordered { ordered: Ordered::Signed { is_linked: true, .. }, .. }),
        "{answer:?}"
    );
    machine.order().await;
    let Answer::Status(status) = ask(&socket, &Request::Status).await.unwrap() else { panic!() };
    assert_eq!((status.machines, status.linked, status.mode), (1, 1, Mode::Act));

    let request = Request::CreateSignIn {
        name: "admin".into(),
        role: Some(Role::Administrator),
        good_for_seconds: 60,
    };
    let Answer::Secret(secret) = ask(&socket, &request).await.unwrap() else { panic!() };
    assert!(site.hub().sign_in(&secret).await.unwrap().is_some());

    let request = Request::Release { machine: "nobody".into(), reason: "x".into() };
    assert!(matches!(ask(&socket, &request).await.unwrap(), Answer::Refused(_)));
}

#[tokio::test(flavor = "multi_thread")]
async fn another_user_is_not_answered() {
    if !nix::unistd::geteuid().is_root() {
        eprintln!("skipped: only root can become another user");
        return;
    }
    let site = Site::start().await;
    // Even if its file were open to everybody, the system says who is at the other end.
    let open = std::fs::Permissions::from_mode(0o666);
    std::fs::set_permissions(site.control(), open).unwrap();
    let everybody = std::fs::Permissions::from_mode(0o755);
    std::fs::set_permissions(site.directory.path(), everybody).unwrap();
    let socket = site.control();
    let script = format!(
        "import socket,sys\ns=socket.socket(socket.AF_UNIX)\ns.connect({:?})\n\
         try:\n s.sendall(bytes([0,0,0,7,0x66])+b'status')\n answer=s.recv(1)\n\
         except ConnectionError:\n answer=b''\nsys.exit(3 if answer else 0)",
        socket.display().to_string()
    );
    use std::os::unix::process::CommandExt as _;
    let status = tokio::task::spawn_blocking(move || {
        std::process::Command::new("python3").arg("-c").arg(script).uid(65_534).gid(65_534).status()
    });
    match status.await.unwrap() {
        Ok(status) => assert!(status.success(), "{status}"),
        Err(error) => eprintln!("skipped: no python3 to be another user with: {error}"),
    }
}
