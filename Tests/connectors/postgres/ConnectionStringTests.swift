import Glibc
import Testing
import WeirCore
import WeirPostgresClient

/// Serial: what the environment says counts, too.
@Suite(.serialized) struct ConnectionStringTests {
    @Test(arguments: [
        "postgresql://weir:p@CANARY@127.0.0.1:1/shop", "postgres://weir:p@CANARY@127.0.0.1/shop",
        "postgresql://weir:5432/CANARY@127.0.0.1:1/shop", "postgresql://weir:/CANARY@h/shop",
        "postgresql://u:p@h/shop@CANARY", "postgresql://u:p@h/shop?x=CANARY@h",
        "postgresql://weir:p?x=CANARY/x@h/shop", "postgresql://@CANARY@h",
        "postgresql://weir:CANARY/shop", "postgresql://weir:p%zzCANARY@h/shop",
        "postgresql://weir:p?CANARY/x@h/shop", "host=h password=CANARY CANARY",
    ])
    func aPasswordThatIsNotEscapedIsRefusedWithoutShowingAPart(text: String) throws {
        let issue = try #require(throws: ConfigIssue.self) { try ConnectionString(text) }
        #expect(issue.field == "url")
        #expect(!"\(issue)".contains("CANARY"), "\(issue)")
    }

    @Test(
        arguments: [
            ("postgresql://weir:p%40x%2Fy@db.example:1/shop", "db.example:1/shop", "p@x/y"),
            ("postgres://weir:a:b#c?d@h/shop", "h:5432/shop", "a:b#c?d"),
            ("postgresql:///shop?host=%2Frun%2Fpg", "/run/pg:5432/shop", nil),
            ("postgresql://u@h/shop?application_name=a%40b", "h:5432/shop", nil),
            ("postgresql://u@h/shop?application_name=a@b", "h:5432/shop", nil),
            ("postgresql://h/shop?user=app@server&password=p@x/y", "h:5432/shop", "p@x/y"),
            ("postgresql://u:p@h?sslrootcert=/x@y/ca.pem&dbname=shop", "h:5432/shop", "p"),
            ("host=h dbname=shop user=a@b password='p@x'", "h:5432/shop", "p@x"),
        ] as [(String, String, String?)])
    func anEscapedOneIsTaken(text: String, place: String, password: String?) throws {
        let string = try ConnectionString(text)
        #expect(string.place == place)
        #expect(string["password"] == password)
    }

    @Test(
        arguments: [
            ("postgresql://u@localhost/d", nil), ("postgresql://u@LOCALHOST/d", nil),
            ("postgresql://u@127.0.0.1/d", nil), ("postgresql://u@127.9.8.7/d", nil),
            ("postgresql://u@[::1]/d", nil), ("postgresql:///d", nil),
            ("postgresql:///d?host=/run/pg", nil), ("postgresql://u@localhost,127.0.0.1/d", nil),
            ("postgresql://u@db/d?hostaddr=127.0.0.1", nil),
            ("postgresql://u@db/d?sslmode=verify-full", nil),
            ("postgresql://u@db/d", "sslmode=prefer"),
            ("postgresql://u@db/d?sslmode=verify-ca", "sslmode=verify-ca"),
            ("postgresql://u@127.evil.test/d?sslmode=disable", "sslmode=disable"),
            ("postgresql://u@127.0.0.1.evil.test/d", "sslmode=prefer"),
            ("postgresql://u@localhost/d?hostaddr=10.0.0.9&sslmode=disable", "sslmode=disable"),
            ("postgresql://u@localhost,db/d", "sslmode=prefer"),
            ("postgresql://u@[::2]/d", "sslmode=prefer"),
            ("host=localhost,localhost hostaddr=127.0.0.1,10.0.0.9", "sslmode=prefer"),
            ("host=localhost,db hostaddr=127.0.0.1,", "sslmode=prefer"),
            ("service=shop", "service file"), ("service=shop sslmode=require", "sslmode=require"),
            ("service=shop host=localhost", nil),
        ] as [(String, String?)])
    func whatIsNotVerifiedIsWarnedOfUnlessLocal(text: String, warning: String?) throws {
        let found = try ConnectionString(text).tlsWarning(connection: "shop")
        #expect((found == nil) == (warning == nil), "\(found ?? "none")")
        if let warning { #expect(found?.contains(warning) == true, "\(found ?? "")") }
    }

    @Test(
        arguments: [
            ("PGHOST", "db.example", "postgresql:///d", "sslmode=prefer"),
            ("PGHOSTADDR", "10.0.0.9", "postgresql://u@localhost/d", "sslmode=prefer"),
            ("PGSERVICE", "shop", "postgresql:///d", "service file"),
            ("PGSSLMODE", "disable", "postgresql://u@db/d", "sslmode=disable"),
            ("PGSSLMODE", "verify-full", "postgresql://u@db/d", nil),
        ] as [(String, String, String, String?)])
    func whatTheEnvironmentAddsCounts(
        name: String, value: String, text: String, warning: String?
    ) throws {
        let before = unsafe getenv(name).map { unsafe String(cString: $0) }
        unsafe setenv(name, value, 1)
        defer { if let before { unsafe setenv(name, before, 1) } else { unsafe unsetenv(name) } }
        let found = try ConnectionString(text).tlsWarning(connection: "shop")
        #expect((found == nil) == (warning == nil), "\(found ?? "none")")
        if let warning { #expect(found?.contains(warning) == true, "\(found ?? "")") }
    }

    @Test(
        arguments: [
            ("host=/cloudsql/p:r:a", ["/cloudsql/p:r:a:5432"]),
            ("host=/tmp/ port=5433", ["localhost:5433"]),
            ("host=/var/run/postgresql", ["localhost:5432"]), ("dbname=shop", ["localhost:5432"]),
            ("host=127.0.0.1,LOCALHOST,::1", ["localhost:5432"]),
            ("host=127.0.0.2", ["127.0.0.2:5432"]),
            ("host=127.example.com", ["127.example.com:5432"]),
            ("host=@weir", ["@weir:5432"]),
        ] as [(String, Set<String>)])
    func aServersNameIsTheSameForAllUsualWaysToIt(text: String, names: Set<String>) throws {
        #expect(try ConnectionString(text).servers == names)
    }
}
