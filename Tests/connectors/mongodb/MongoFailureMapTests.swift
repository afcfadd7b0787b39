import Testing
import WeirCore
import WeirMongoDBClient

@testable import WeirMongoDBSource

/// What follows from a server's error, code by code.
struct MongoFailureMapTests {
    private let map = MongoFailureMap(place: "h:1", pipeline: "p", scope: .database("shop"))

    private func error(_ code: Int, labels: [String] = []) -> WeirError {
        map.error(
            ofStream: MongoFailure(.command, code: code, "words", labels: labels), doing: "read")
    }

    @Test(
        "CORRECTNESS 54: what opening the stream again mends",
        arguments: [6, 7, 43, 63, 89, 91, 133, 150, 189, 234, 262, 9001, 10107, 11600, 11602]
            + [13388, 13435, 13436])
    func resumable(code: Int) {
        #expect(MongoFailureMap.isResumable(MongoFailure(.command, code: code, "")))
        #expect(
            !MongoFailureMap.isResumable(
                MongoFailure(.command, code: code, "", labels: [MongoFailure.notResumable])))
    }

    @Test(
        "CORRECTNESS 54: what opening the stream again does not mend",
        arguments: [0, 1, 9, 11, 13, 14, 15, 18, 59, 136, 222, 237, 260, 280, 286, 10334, 11601]
            + [40324, 40573, 40647, 50811])
    func notResumable(code: Int) {
        #expect(!MongoFailureMap.isResumable(MongoFailure(.command, code: code, "")))
        // A server of 4.4 or newer knows better.
        #expect(
            MongoFailureMap.isResumable(
                MongoFailure(.command, code: code, "", labels: [MongoFailure.resumable])))
    }

    @Test func connectionsAreResumedAndLoginsAreNot() {
        #expect(MongoFailureMap.isResumable(MongoFailure(.network, "")))
        #expect(!MongoFailureMap.isResumable(MongoFailure(.authentication, "")))
        #expect(!MongoFailureMap.isResumable(MongoFailure(.client, "")))
    }

    @Test(
        "CORRECTNESS 54: each error that is not mended has its code",
        arguments: [
            ("history_lost", .positionLost, [286, 136]),
            ("token_unfit", .positionLost, [280, 260, 9, 14, 15, 207, 40646, 50811, 51057]),
            ("event_too_large", .blocked, [10334]), ("permission", .blocked, [13]),
            ("authentication", .transient, [18]), ("not_replica_set", .blocked, [40573]),
            ("unsupported", .blocked, [40324, 59]), ("not_a_collection", .blocked, [73]),
            ("command_failed", .transient, [1, 8, 50, 237]),
        ] as [(String, Disposition, [Int])])
    func codes(name: String, disposition: Disposition, codes: [Int]) {
        let hinted = [
            "history_lost", "token_unfit", "permission", "not_replica_set", "not_a_collection",
        ]
        for code in codes {
            let error = error(code)
            #expect(error.code.name == "mongodb.\(name)", "\(code)")
            #expect(error.disposition == disposition)
            #expect(error.message == "could not read at h:1: words")
            #expect(error.detail == "The server's code is \(code).")
            #expect((error.hint != nil) == hinted.contains(name))
        }
        #expect(error(1, labels: [MongoFailure.notResumable]).disposition == .positionLost)
    }

    @Test(
        "CORRECTNESS 55: only a stream's own commands say that the position is lost",
        arguments: [286, 136, 280, 260, 9, 14, 15, 207, 40646, 50811, 51057])
    func ofOtherCommands(code: Int) {
        for labels in [[], [MongoFailure.notResumable]] {
            let error = map.error(
                MongoFailure(.command, code: code, "words", labels: labels), doing: "read")
            #expect(error.code.name == "mongodb.command_failed")
            #expect(error.disposition == .transient)
        }
    }

    @Test func errorsWithoutACode() {
        let lost = map.error(MongoFailure(.network, "gone"), doing: "read")
        #expect(lost.code.name == "mongodb.connection_failed")
        #expect(lost.disposition == .transient)
        #expect(lost.detail == nil)
        let login = map.error(MongoFailure(.authentication, "no"), doing: "connect")
        #expect(login.code.name == "mongodb.authentication")
        #expect(login.disposition == .transient)
        #expect(
            map.error(MongoFailure(.client, "?"), doing: "x").code.name == "mongodb.command_failed")
    }

    @Test func hintsCanBePasted() {
        #expect(error(286).hint?.contains("weir position set p now --yes") == true)
        #expect(error(13).hint?.contains(#"{ role: "read", db: "shop" }"#) == true)
        let whole = MongoFailureMap(place: "h:1", pipeline: "p", scope: .deployment)
        #expect(error(13).hint?.contains("grantRolesToUser(\"USER\", ") == true)
        let hint = whole.error(MongoFailure(.command, code: 13, ""), doing: "read").hint
        #expect(hint?.contains(#"{ role: "readAnyDatabase", db: "admin" }"#) == true)
    }
}
