use super::*;
use crate::services::database::{Account, Names, Operation};
use sync_proto::wire::service::database::Privilege;

const MARIADB: Dialect = Dialect::MariaDb(10, 11, 6);
const MYSQL: Dialect = Dialect::MySql(8, 0, 36);

fn every_operation() -> Vec<Operation> {
    let names = Names::called("site_a").unwrap();
    let account = Account {
        user: names.user.clone(),
        host: "10.77.0.3".parse().unwrap(),
    };
    let account = || account.clone();
    let (role, database) = (names.role, names.database);
    let password = |text: &str| text.parse().unwrap();
    let schema = database.pattern();
    let privileges: Vec<Privilege> = vec!["EVENT".parse().unwrap(), "TRIGGER".parse().unwrap()];
    vec![
        Operation::CreateDatabase {
            database: database.clone(),
        },
        Operation::CreateRole { role: role.clone() },
        Operation::Grant {
            role: role.clone(),
            database: database.clone(),
        },
        Operation::Revoke {
            role: role.clone(),
            schema,
            privileges,
        },
        Operation::CreateAccount {
            account: account(),
            password: password("password-1"),
        },
        Operation::GiveRole {
            account: account(),
            role: role.clone(),
        },
        Operation::AddPassword {
            account: account(),
            current: password("password-1"),
            added: password("password-2"),
        },
        Operation::SetPassword {
            account: account(),
            password: password("password-2"),
        },
        Operation::Unlock { account: account() },
        Operation::Lock { account: account() },
        Operation::EndSessions { account: account() },
        Operation::DropAccount { account: account() },
        Operation::DropRole { role },
        Operation::DropDatabase {
            database,
            only_if_empty: true,
        },
    ]
}

fn script(dialect: Dialect) -> String {
    let lines = every_operation();
    let lines: Vec<String> = lines
        .iter()
        .flat_map(|it| statements(it, dialect))
        .collect();
    lines.join("\n")
}

#[test]
fn mariadb_gets_create_user_and_grant_apart() {
    insta::assert_snapshot!(script(MARIADB));
}

#[test]
fn mysql_8_gets_its_own_words_for_roles_and_passwords() {
    insta::assert_snapshot!(script(MYSQL));
}

#[test]
fn no_statement_makes_an_account_by_granting_or_only_if_it_is_missing() {
    for text in [script(MARIADB), script(MYSQL)] {
        assert!(!text.contains("IF NOT EXISTS"), "{text}");
        let grants = text.lines().filter(|line| line.starts_with("GRANT"));
        assert!(
            grants.clone().count() == 2 && grants.clone().all(|line| !line.contains("IDENTIFIED"))
        );
        assert!(text.contains("`site\\_a`.*") && !text.contains("ON `site_a`"));
    }
}

#[test]
fn the_administration_account_is_limited_to_databases_with_the_prefix() {
    let admin = Administrator {
        account: Account {
            user: "fanout".parse().unwrap(),
            host: "10.77.0.1".parse().unwrap(),
        },
        password: "password-1".parse().unwrap(),
        databases: vec!["old_shop".parse().unwrap()],
        roles: vec!["fo_a_rw".parse().unwrap()],
    };
    let script = |dialect| admin.statements(dialect).join("\n");
    insta::assert_snapshot!("administration_mariadb", script(MARIADB));
    insta::assert_snapshot!("administration_mysql", script(MYSQL));
}
