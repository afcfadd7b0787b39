import Glibc
import Testing
import WeirCore
import WeirPostgresSource
import WeirTesting

/// TLS is what the URL says, checked by libpq; the server is Debian's, the wheels have no TLS.
struct TLSTests {
    /// A server that only takes TLS, its certificate, and another that did not sign it.
    private func start() async throws -> (PostgresServer, root: String, wrong: String) {
        let server = try await PostgresServer.start()
        let root = try certificate("server", in: server.dataDirectory)
        let wrong = try certificate("other", in: server.dataDirectory)
        try await server.restart(settings: [
            "ssl": "on", "ssl_cert_file": root, "ssl_key_file": root.key,
        ])
        return (server, root, wrong)
    }

    /// A self-signed certificate for localhost, owned by whoever owns the folder.
    private func certificate(_ name: String, in folder: String) throws -> String {
        let path = "\(folder)/\(name).crt"
        let made = try runProcess(
            "/usr/bin/openssl",
            [
                "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "30", "-subj",
                "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1",
                "-keyout", path.key, "-out", path,
            ])
        try #require(made.status == .exited(0), "\(made.stderr)")
        var facts = stat()
        try #require(unsafe stat(folder, &facts) == 0)
        for file in [path, path.key] {
            try #require(unsafe chmod(file, 0o600) == 0)
            try #require(unsafe chown(file, facts.st_uid, facts.st_gid) == 0)
        }
        return path
    }

    private func open(_ database: TestDatabase, _ parameters: String) async throws {
        let url = "\(database.server.url(database: database.name))?\(parameters)"
        let harness = try SourceHarness(database, tables: ["public.t"], url: url)
        try await harness.open()
        await harness.source.close()
    }

    @Test func aVerifiedServerIsTakenAndAnyOtherRefused() async throws {
        let (server, root, wrong) = try await start()
        let database = try await TestDatabase(
            "CREATE TABLE t (id int PRIMARY KEY)", server: server)
        try await open(database, "sslmode=verify-full&sslrootcert=\(root)")
        for parameters in [
            "sslmode=verify-full&sslrootcert=\(wrong)",
            "sslmode=verify-ca&sslrootcert=\(wrong)",
            "sslmode=verify-full&sslrootcert=/nonexistent",
        ] {
            let error = await #expect(throws: WeirError.self, "\(parameters)") {
                try await open(database, parameters)
            }
            #expect(error?.code.name == "postgres.connection_failed")
            #expect(error?.disposition == .transient)
        }
    }

    @Test func aServerWithoutTLSIsRefusedWhereTheURLAsksForIt() async throws {
        let database = try await TestDatabase("CREATE TABLE t (id int PRIMARY KEY)")
        let error = await #expect(throws: WeirError.self) {
            try await open(database, "sslmode=require")
        }
        #expect(error?.message.contains("SSL") == true)
    }

    @Test(arguments: [
        ("postgres://u@db.internal/d", true), ("postgres://u@db.internal/d?sslmode=require", true),
        ("postgres://u@db.internal/d?sslmode=verify-full", false),
        ("postgres://u@127.0.0.1/d", false), ("postgres://u@localhost/d", false),
        ("postgresql:///d?host=/run/postgresql", false),
    ])
    func anythingWeakerThanVerifyFullIsWarnedOfUnlessLocal(url: String, isWarned: Bool) throws {
        let scope = ConfigScope(
            pipeline: "p", name: "source",
            values: ConfigValues([
                "tables": .list([.table(TableName(schema: "public", name: "t"))])
            ]),
            connection: ConfigValues(["url": .secret(Secret(url, origin: "test"))]),
            connectionName: "c")
        #expect(try PostgresSourceConfig(scope).warnings.isEmpty == !isWarned)
    }
}

extension String {
    fileprivate var key: String { dropLast(3) + "key" }
}
