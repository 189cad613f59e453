//! PostgreSQL starts, keeps what it committed through crashes, and dies with its starter.

use testbed::{PgAuth, PgOptions, PgVersion, Postgres};

fn durable() -> PgOptions {
    PgOptions { fsync: true, ..PgOptions::default() }
}

fn survives(version: PgVersion, end: impl Fn(&Postgres)) {
    let pg = Postgres::start(version, durable()).unwrap();
    pg.create_database("shop").unwrap();
    pg.execute("shop", "create table t (n int); insert into t values (7)").unwrap();
    let (port, pid) = (pg.port(), pg.pid());
    end(&pg);
    assert_eq!(pg.port(), port);
    assert_ne!(pg.pid(), pid);
    let rows = pg.execute("shop", "select n, null from t").unwrap();
    assert_eq!(rows, [[Some("7".to_owned()), None]]);
    let said = pg.execute("shop", "show server_version_num").unwrap();
    assert!(said[0][0].as_ref().unwrap().starts_with(&version.number().to_string()));
}

#[test]
fn both_versions_keep_what_was_committed_through_a_crash() {
    for version in PgVersion::ALL {
        survives(version, |pg| pg.crash().unwrap());
    }
}

#[test]
fn both_versions_start_again_after_kill_9_and_after_a_stop() {
    for version in PgVersion::ALL {
        survives(version, |pg| {
            pg.kill9().unwrap();
            pg.start_again().unwrap();
            pg.stop().unwrap();
            assert_eq!(pg.pid(), None);
            pg.start_again().unwrap();
        });
    }
}

#[test]
fn a_paused_server_answers_once_resumed() {
    let pg = Postgres::start(PgVersion::V18, PgOptions::default()).unwrap();
    pg.pause().unwrap();
    let asking = std::thread::scope(|scope| {
        let asked = scope.spawn(|| pg.execute("postgres", "select 1"));
        pg.resume().unwrap();
        asked.join().unwrap()
    });
    assert_eq!(asking.unwrap(), [[Some("1".to_owned())]]);
}

#[test]
fn a_refusal_is_the_servers_own_words() {
    let pg = Postgres::start(PgVersion::V18, PgOptions::default()).unwrap();
    let said = pg.execute("postgres", "select 1 / 0").unwrap_err().to_string();
    assert!(said.contains("division by zero"), "{said}");
}

#[test]
fn a_wrong_setting_fails_the_start_and_shows_the_log() {
    let settings = vec![("no_such_setting".to_owned(), "1".to_owned())];
    let options = PgOptions { settings, auth: PgAuth::Scram, ..PgOptions::default() };
    let said = Postgres::start(PgVersion::V18, options).unwrap_err().to_string();
    assert!(said.contains("no_such_setting"), "{said}");
}

#[test]
fn dropping_it_leaves_no_folder_and_nothing_that_listens() {
    let pg = Postgres::start(PgVersion::V18, PgOptions::default()).unwrap();
    let (folder, addr) = (pg.folder().to_path_buf(), pg.addr());
    assert!(folder.is_dir());
    drop(pg);
    assert!(!folder.exists());
    assert!(std::net::TcpStream::connect(addr).is_err());
}
