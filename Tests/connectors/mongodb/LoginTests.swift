import Foundation
import Testing
import WeirCore
import WeirTesting

@testable import WeirMongoDBSource

extension MongoSourceTests {
    /// TLS and logging in are what the URL says, and passwords are shown nowhere.
    @Suite(.serialized) struct Logins {
        private static let password = #"WEIRCANARY%41'"ö"#
        private static let shared = Task {
            try await MongoReplicaSet.start(
                MongoServer.Options(tls: true, password: password))
        }

        private func fails(
            _ url: String, _ name: String, _ disposition: Disposition = .transient,
            config: [String: ConfigValue] = ["database": .string("shop")],
            sourceLocation: SourceLocation = #_sourceLocation
        ) async throws -> WeirError {
            let source = try SourceHarness(url: url, pipeline: "p", config: config)
            let error = try await #require(
                throws: WeirError.self, sourceLocation: sourceLocation
            ) { try await source.open() }
            #expect(error.code.name == "mongodb.\(name)", sourceLocation: sourceLocation)
            #expect(error.disposition == disposition, sourceLocation: sourceLocation)
            for text in ["\(error)"] + source.log.all {
                #expect(!text.contains("CANARY"), sourceLocation: sourceLocation)
            }
            return error
        }

        @Test func aVerifiedServerIsTaken() async throws {
            let set = try await Self.shared.value
            let database = try await TestDatabase(on: set)
            let source = try await SourceHarness.open(database)
            try await database.insert(#"{"_id": 1}"#)
            #expect(try await source.drain().ids == ["1"])
            #expect(try await source.source.probe(held: nil).status == "safe")
        }

        @Test func anyOtherServerIsRefused() async throws {
            let set = try await Self.shared.value
            let folder = try TemporaryDirectory()
            let wrong = try RedisServer.makeCertificate("wrong", in: folder)
            let right = set.certificateFile
            let url = set.nodes[0].url()
            for bad in [
                url.replacing(right, with: wrong), url.replacing(right, with: "/nonexistent"),
                // The system's own authorities do not know it.
                url.replacing("&tlsCAFile=\(right)", with: ""),
                // Another name of the same address, which the certificate lacks.
                url.replacing("127.0.0.1", with: "127.1"),
            ] {
                let error = try await fails(bad, "connection_failed")
                #expect(
                    error.hint?.hasPrefix("Check ") == true && error.hint?.contains("tls") == true,
                    "\(error)")
            }
            // One that takes TLS only.
            let plain = url.replacing("tls=true&tlsCAFile=\(right)", with: "tls=false")
            _ = try await fails(plain, "connection_failed")
            // A weaker check is taken where the URL asks for it.
            let weak = url.replacing("127.0.0.1", with: "127.1") + "&tlsAllowInvalidHostnames=true"
            let source = try SourceHarness(
                url: weak, pipeline: "p", config: ["database": .string("shop")])
            try await source.open()
        }

        @Test func aWrongPasswordIsRetriedAndNeverShown() async throws {
            let set = try await Self.shared.value
            for url in [
                set.url(password: "CANARY wrong"), set.url(user: "CANARY nobody"),
                set.url() + "&authMechanism=SCRAM-SHA-1&authSource=CANARY",
            ] {
                let error = try await fails(url, "authentication")
                #expect(error.hint?.contains("authSource") == true)
            }
        }

        @Test("CORRECTNESS 54: a right that is missing is named, with the command that grants it")
        func missingRights() async throws {
            let set = try await Self.shared.value
            let shell = try set.shell()
            try await shell.run(
                #"{"createUser": "stranger", "pwd": "CANARY s", "roles": []}"#)
            try await shell.run(
                """
                {"createUser": "reader", "pwd": "CANARY r", "roles": [
                {"role": "read", "db": "shop"}]}
                """)
            let stranger = set.url(user: "stranger", password: "CANARY s")
            let reader = set.url(user: "reader", password: "CANARY r")
            for (url, config) in [
                (stranger, ["database": .string("shop")]),
                (reader, ["database": .string("crm")]), (reader, [:]),
            ] as [(String, [String: ConfigValue])] {
                let error = try await fails(url, "permission", .blocked, config: config)
                // What mongosh makes of the command.
                let grant = try #require(
                    error.hint?.firstMatch(
                        of: /: db\.getSiblingDB\("(.*)"\)\.grantRolesToUser\("(.*)", (\[.*\])\)\n/))
                let roles = grant.output.3.replacing("role:", with: "\"role\":")
                    .replacing("db:", with: "\"db\":")
                try await shell.run(
                    #"{"grantRolesToUser": "\#(grant.output.2)", "roles": \#(roles)}"#,
                    database: String(grant.output.1))
                let source = try SourceHarness(url: url, pipeline: "p", config: config)
                try await eventually("the right counts") {
                    (try? await source.open()) != nil
                }
            }
            // Without a login at all.
            _ = try await fails(set.url(user: nil), "permission", .blocked)
        }

        @Test("CORRECTNESS 54: for one collection, the right to follow and to read it is enough")
        func oneCollectionsRight() async throws {
            let set = try await Self.shared.value
            let database = try await TestDatabase(on: set)
            let resource = #"{"db": "\#(database.name)", "collection": "t"}"#
            try await database.shell.run(
                """
                {"createRole": "t-\(database.name)", "roles": [], "privileges": [
                {"resource": \(resource), "actions": ["changeStream", "find"]}]}
                """)
            try await database.shell.run(
                """
                {"createUser": "one-\(database.name)", "pwd": "o", "roles": [
                {"role": "t-\(database.name)", "db": "admin"}]}
                """)
            let url = set.url(user: "one-\(database.name)", password: "o")
            let source = try await SourceHarness.open(database, url: url)
            try await database.insert(#"{"_id": 1}"#)
            try await database.update(#"{"_id": 1}"#, #"{"$set": {"a": 1}}"#)
            #expect(try await source.drain().count == 2)
            let config: [String: ConfigValue] = [
                "collections": .list([database.path("t"), database.path("u")].map { .string($0) })
            ]
            let error = try await fails(url, "permission", .blocked, config: config)
            #expect(error.hint?.contains("on all of it") == true)
        }

        @Test("CORRECTNESS 68: without the right to read the oplog all but its length is known")
        func oplogRight() async throws {
            let set = try await Self.shared.value
            let database = try await TestDatabase(on: set)
            try await database.shell.run(
                """
                {"createUser": "follower", "pwd": "f", "roles": [
                {"role": "read", "db": "\(database.name)"}]}
                """)
            let source = try await SourceHarness.open(
                database, url: set.url(user: "follower", password: "f"))
            try await database.insert(#"{"_id": 1}"#)
            try await database.update(#"{"_id": 1}"#, #"{"$set": {"a": 1}}"#)
            #expect(try await source.drain().count == 2)
            let held = try #require(source.resume)
            let unknown = try await source.source.probe(held: held)
            #expect(unknown.status == "unknown")
            #expect(unknown.windowSeconds == nil)
            #expect(unknown.headroomSeconds == nil)
            #expect(unknown.confirmed == ClusterTime.text(held.high))
            #expect(unknown.active)
            try await database.shell.run(
                #"{"grantRolesToUser": "follower", "roles": [{"role": "read", "db": "local"}]}"#)
            try await eventually("the right counts") {
                try await source.source.probe(held: held).status == "safe"
            }
        }

        @Test("CORRECTNESS 54: a user who is dropped while the stream runs")
        func droppedUser() async throws {
            let set = try await Self.shared.value
            let database = try await TestDatabase(on: set)
            try await database.shell.run(
                """
                {"createUser": "leaver", "pwd": "CANARY l", "roles": [
                {"role": "read", "db": "\(database.name)"}]}
                """)
            let url = set.url(user: "leaver", password: "CANARY l")
            let source = try await SourceHarness.open(database, url: url)
            try await database.insert(#"{"_id": 1}"#)
            #expect(try await source.drain().ids == ["1"])
            try await database.shell.run(#"{"dropUser": "leaver"}"#)
            var failure: WeirError?
            try await eventually("the server turns us away") {
                do { try await source.readBatch() } catch let error as WeirError {
                    failure = error
                }
                return failure != nil
            }
            #expect(failure?.disposition != .positionLost)
            _ = try await fails(url, "authentication", config: ["database": .string(database.name)])
        }
    }
}
