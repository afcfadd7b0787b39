import NIOCore
import WeirCore

/// What a server says of itself in INFO. Nil is unknown: an account may not be allowed to ask, and
/// servers leave things out.
package struct RedisServerFacts: Sendable, Equatable {
    package enum Mode: String, Sendable { case standalone, cluster, sentinel }

    package enum Role: String, Sendable { case master, slave, sentinel }

    /// Valkey's own version where `isValkey`, else Redis's, such as "7.0.15".
    package var version: String?
    package var isValkey = false
    /// New with every start of the server.
    package var runID: String?
    package var mode: Mode?
    package var role: Role?
    /// The history of the data set: kept by replicas, new after a failover or an empty start.
    package var replicationID: String?
    /// Such as "noeviction".
    package var evictionPolicy: String?
    package var evictedKeys: Int64?
    /// Bytes; 0 for no limit.
    package var maxMemory: Int64?
    package var port: Int?

    private static let sections = ["server", "replication", "memory", "stats"]

    /// - Throws: what ended the connection, and refusals that may pass, such as BUSY.
    package static func read(
        from connection: RedisConnection
    ) async throws(RedisFailure) -> RedisServerFacts {
        var commands = ByteBuffer()
        // One section at a time: INFO takes several only since 7.0.
        for section in sections { commands.writeCommand(["INFO", section]) }
        var text = ""
        for reply in try await connection.submit(commands, replies: sections.count).value() {
            if let error = reply.error, !["NOPERM", "ERR"].contains(error.code) {
                throw RedisFailure(error)
            }
            text += reply.text ?? ""
        }
        return RedisServerFacts(info: text)
    }

    /// From the text of INFO: lines of `name:value`, others ignored.
    package init(info: String) {
        var fields: [Substring: String] = [:]
        for line in info.split(whereSeparator: \.isNewline) where !line.hasPrefix("#") {
            guard let colon = line.firstIndex(of: ":") else { continue }
            let value = String(line[line.index(after: colon)...])
            fields[line[..<colon]] = ForeignText.visible(value)
        }
        isValkey = fields["server_name"] == "valkey" || fields["valkey_version"] != nil
        version = fields["valkey_version"] ?? fields["redis_version"]
        runID = fields["run_id"]
        mode = (fields["redis_mode"] ?? fields["server_mode"]).flatMap(Mode.init(rawValue:))
        role = fields["role"].flatMap(Role.init(rawValue:))
        replicationID = fields["master_replid"]
        evictionPolicy = fields["maxmemory_policy"]
        evictedKeys = fields["evicted_keys"].flatMap { Int64($0) }
        maxMemory = fields["maxmemory"].flatMap { Int64($0) }
        port = fields["tcp_port"].flatMap { Int($0) }
    }
}
