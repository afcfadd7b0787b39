import Foundation
import Testing
import WeirTesting

/// The scripts that services use, as they are documented.
struct LeaseScripts {
    private let server: RedisServer
    private let leaseText: String
    private let fillText: String

    init(_ server: RedisServer) throws {
        self.server = server
        let folder = URL(fileURLWithPath: #filePath).deletingLastPathComponent()
            .appending(path: "../../../../connectors/redis/scripts")
        leaseText = try String(contentsOf: folder.appending(path: "lease.lua"), encoding: .utf8)
        fillText = try String(contentsOf: folder.appending(path: "fill.lua"), encoding: .utf8)
    }

    func lease(_ key: String, _ token: String, millis: Int = 60_000) throws -> Bool {
        let reply = try server.command(
            "EVAL", leaseText, "2", key, "{\(key)}:v", token, "\(millis)")
        guard case .integer(let given) = reply else {
            throw TestingError("lease.lua answered \(reply)")
        }
        return given == 1
    }

    func fill(
        _ key: String, _ token: String, _ value: [UInt8], ttl: Int = 0, asHash: Bool = false
    ) throws -> Bool {
        var parts = ["EVAL", fillText, "2", key, "{\(key)}:v", token, "\(ttl)"].map {
            Array($0.utf8)
        }
        if asHash { parts.append(Array("note".utf8)) }
        let reply = try server.command(parts + [value])
        guard case .integer(let taken) = reply else {
            throw TestingError("fill.lua answered \(reply)")
        }
        return taken == 1
    }
}

/// What versions look like in side keys.
enum VersionText {
    static func of(
        epoch: UInt32, commit: UInt64, ordinal: UInt32 = 0, tail: String = ""
    ) -> String {
        func hex(_ number: UInt64, _ digits: Int) -> String {
            let text = String(number, radix: 16, uppercase: true)
            return String(repeating: "0", count: digits - text.utf8.count) + text
        }
        return hex(UInt64(epoch), 8) + hex(commit, 16) + hex(UInt64(ordinal), 8) + tail
    }

    /// Of an event that has this token.
    static func of(epoch: UInt32, token: String) -> String {
        let time = UInt64(token.dropFirst(2).prefix(16), radix: 16) ?? 0
        return of(epoch: epoch, commit: time, tail: String(token.dropFirst(18)))
    }
}
