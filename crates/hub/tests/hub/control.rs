//! The socket of the command line.

use std::os::unix::fs::PermissionsExt as _;

use cordon_hub::control::{Answer, Request, ask};
use cordon_hub::view::AssignmentDraft;
use cordon_hub::view::Ordered;
use cordon_link::token::EnrolToken;
use cordon_model::asset::ClinicalTier;
use cordon_model::finding::Level;
use cordon_model::incident::IncidentState;
use cordon_model::measure::Isolation;
use cordon_model::policy::Mode;
use cordon_store::Role;

use super::support::{Machine, Site, found};

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
    let answer = ask(&socket, &request).await.unwrap();
    assert!(matches!(answer, Answer::Assigned(assigned) if assigned.name == "Front desk"));
    let set = ask(&socket, &Request::SetMode(Mode::Act)).await.unwrap();
    assert_eq!(set, Answer::PolicySet { revision: 2, mode: Mode::Act, night: None });
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

    let request = Request::Release { machine: "nobody".into(), reason: "x".into(), despite: None };
    assert!(matches!(ask(&socket, &request).await.unwrap(), Answer::Refused(_)));
}

#[tokio::test(flavor = "multi_thread")]
async fn another_user_is_not_answered() {
    if cordon_tests::lacks_root("becoming another user")
        || cordon_tests::lacks_programs(&["python3"])
    {
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
    let status = status.await.unwrap().unwrap();
    assert!(status.success(), "{status}");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_machine_and_one_incident_are_shown_in_full_and_the_incident_is_worked_on_by_name() {
    let site = Site::start().await;
    let socket = site.control();
    let asked = async |request: Request| ask(&socket, &request).await.unwrap();
    let mut machine = site.machine("office-1").await;
    machine.report(found("office-1", Level::High, 1)).await;
    asked(Request::Isolate {
        machine: "office-1".into(),
        isolation: Isolation::Segment,
        reason: "worm".into(),
    })
    .await;
    let order = machine.order().await;
    machine.carry_out(&order).await;

    let Answer::Machine(detail) = asked(Request::Machine { machine: "office-1".into() }).await
    else {
        panic!()
    };
    assert_eq!((detail.row.id, detail.row.isolation), (machine.id(), Some(Isolation::Segment)));
    assert_eq!((detail.mode, detail.finding_count), (Mode::Ask, 1));
    assert_eq!(detail.findings[0].title, "A worm spreads");
    assert_eq!(detail.measures[0].what, "isolate (segment) for 4 h");
    assert_eq!(detail.measures[0].reason.as_deref(), Some("worm"));
    assert!(detail.assignment.is_some());

    let listed = asked(Request::ListIncidents { only_open: true }).await;
    let Answer::Incidents { rows, .. } = listed else { panic!() };
    let incident = rows[0].incident.id;
    assert_eq!(asked(Request::TakeIncident(incident)).await, Answer::Done);
    let comment = "looks like a scan".to_owned();
    assert_eq!(asked(Request::CommentIncident { incident, comment }).await, Answer::Done);
    let Answer::Incident(detail) = asked(Request::Incident(incident)).await else { panic!() };
    assert_eq!(detail.row.incident.state, IncidentState::Owned);
    assert_eq!((detail.machines.len(), detail.machine_count), (1, 1));
    assert_eq!(
        (detail.row.isolated, detail.row.machine_names.as_slice()),
        (1, &["office-1".to_owned()][..])
    );
    let last = detail.timeline.last().unwrap();
    assert_eq!(detail.timeline.len() as u64, detail.timeline_count);
    assert_eq!(
        (last.what.as_str(), last.detail.as_str()),
        ("Worked on", "comment: looks like a scan")
    );
    assert_eq!(
        Some(last.who.as_str()),
        detail.row.incident.owner.as_deref(),
        "who is on the socket"
    );
    let closed = asked(Request::CloseIncident { incident, reason: "a drill".into() }).await;
    assert_eq!(closed, Answer::Done);
    let again = asked(Request::CloseIncident { incident, reason: "again".into() }).await;
    assert!(matches!(again, Answer::Refused(why) if why.contains("open incident")));
}

/// The signer's word and the hub's may differ: the machine that is to be kept out is not left in by a name.
#[tokio::test(flavor = "multi_thread")]
async fn whoever_strikes_a_machine_off_hears_which_it_was_and_not_of_another_of_its_name() {
    let site = Site::start().await;
    let (socket, old) = (site.control(), site.machine("office-1").await.id());
    let strike_off = async |machine: &str, called: Option<&str>| {
        let (machine, called) = (machine.to_owned(), called.map(str::to_owned));
        let reason = "stolen".to_owned();
        let request = Request::StrikeOff { machine, called, reason, though_cut_off: true };
        match ask(&socket, &request).await.unwrap() {
            Answer::StruckOff { machine, was, .. } => Ok((machine, was)),
            Answer::Refused(why) => Err(why),
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(strike_off("office-1", None).await, Ok((old, false)));
    let by_id = old.to_string();
    assert_eq!(strike_off(&by_id, Some("office-1")).await, Ok((old, true)));

    let mut new = site.machine("office-1").await;
    let why = strike_off(&by_id, Some("office-1")).await.unwrap_err();
    let way_on = format!("`cordon strike-off {}`", new.id());
    assert!(why.contains("nothing was struck off") && why.contains(&way_on), "{why}");
    // By its id alone it is the machine that has it, and by its name the one that goes on.
    assert_eq!(strike_off(&by_id, None).await, Ok((old, true)));
    assert_eq!(site.hub().machines().len(), 1);
    assert_eq!(strike_off("office-1", None).await, Ok((new.id(), false)));
    assert!(new.goodbye().await.contains("struck off"));
    // Another of that name that was struck off goes on nowhere.
    assert_eq!(strike_off(&by_id, Some("office-1")).await, Ok((old, true)));
}
