package import WeirCore
import WeirMongoDBClient
import WeirValues

// What a source can do beside streaming: markers, facts for `status`, moving the position, rows.

extension MongoSource: SourceMarker {
    /// Nothing is written: the server says how far its log is, and the stream's tokens pass that,
    /// with or without events.
    package func mark() async throws(WeirError) -> Position? {
        guard let connection else {
            throw WeirError(.mongoConnectionFailed, .transient, "the source is not open")
        }
        do throws(MongoFailure) {
            return try connection.times().reached.map {
                ResumeToken.at(clusterTime: $0).position
            }
        } catch {
            throw failures.error(error, doing: "ask for the time")
        }
    }
}

extension MongoSource: SourceProbe {
    /// How long the oplog is, and how much of it lies before our position (CORRECTNESS 68).
    package func probe(held: Position?) async throws(WeirError) -> SourceRetention {
        let connection = if let open = self.connection { open } else { try connect() }
        let name = config.scope.database ?? "deployment"
        let confirmed = held.map { ClusterTime.text($0.high) } ?? ""
        let window: (first: UInt64, last: UInt64, isUnlimited: Bool)
        do throws(MongoFailure) {
            guard let first = try connection.oplogEnd(isFirst: true),
                let last = try connection.oplogEnd(isFirst: false)
            else {
                return SourceRetention(
                    .oplog, name: name, active: isOpen, status: "unknown", head: "",
                    confirmed: confirmed)
            }
            window = (first.time, last.time, first.isBeginning)
        } catch {
            // Behind routers there is no oplog to see, and reading it is a right of its own.
            guard error.kind == .command else {
                throw failures.error(error, doing: "look at the oplog")
            }
            return SourceRetention(
                .oplog, name: name, active: isOpen, status: "unknown", head: "",
                confirmed: confirmed)
        }
        let length = window.last.clusterSeconds - window.first.clusterSeconds
        var retention = SourceRetention(
            .oplog, name: name, active: isOpen, status: "safe", head: ClusterTime.text(window.last),
            confirmed: confirmed)
        retention.windowSeconds = Double(max(0, length))
        if let time = held?.high {
            // What is idle is not behind: its position moves with the log's end.
            let left = time.clusterSeconds - window.first.clusterSeconds
            // Where nothing was removed from the log yet, its age does not limit it.
            if !window.isUnlimited { retention.headroomSeconds = Double(max(0, left)) }
            // A log that is a few seconds old is half over at once.
            let isBehind = !window.isUnlimited && 2 * left < length && length - left > 60
            // Seconds are too coarse to tell whether the oplog still has the position.
            let isLost = time < window.first
            retention.status = isLost ? "lost" : isBehind ? "at risk" : "safe"
        }
        return retention
    }
}

extension MongoSource: SourceSeek {
    package func planSeek(
        to target: String, from stored: StoredPosition?
    ) async throws(WeirError) -> SeekPlan {
        let facts = try checkedFacts(connect())
        let own =
            stored.flatMap { ResumeToken($0.position) }.map { ClusterTime.text($0.clusterTime) }
            ?? "an unknown position"
        if target == "now" {
            return SeekPlan(
                target: target,
                effects: ["Changes between \(own) and now are not delivered: a gap."])
        }
        if target == "confirmed", let stored {
            return SeekPlan(
                target: Self.notation.exact(stored.position),
                effects: [
                    "Go on at \(own), where the last of the sinks stands: nothing is skipped, and "
                        + "each sink goes on with what its target holds."
                ], isInPlace: true)
        }
        guard let token = Self.token(target) else {
            throw WeirError(
                .mongoCommandFailed, .blocked, "\"\(target)\" is no position",
                hint: "Use now, confirmed (once the pipeline has started), a time such as "
                    + "2026-11-21T02:03:04Z, or a position that weir position show printed.")
        }
        guard token.clusterTime.clusterSeconds <= facts.clusterTime.clusterSeconds + 1 else {
            throw WeirError(
                .mongoCommandFailed, .blocked,
                "\(ClusterTime.text(token.clusterTime)) is later than the deployment's own time, "
                    + ClusterTime.text(facts.clusterTime))
        }
        return SeekPlan(
            target: Self.notation.exact(token.position),
            effects: [
                "Go on at \(ClusterTime.text(token.clusterTime)) instead of \(own): changes before "
                    + "it are skipped, changes after it that were delivered come again."
            ])
    }

    package func seek(_ plan: SeekPlan) async throws(WeirError) -> StoredPosition {
        let connection = try connect(patience: Patience.most)
        let facts = try checkedFacts(connection)
        let target = plan.target == "now" ? nil : ResumeToken(text: plan.target)
        var start = target
        if let target {
            let note = try await streamNote()
            let isOwn = note?.stream == config.scope.name
            if !isOwn || note?.mayBeAnothers(target.position) == true {
                start = .at(clusterTime: target.clusterTime)
            }
        }
        // Opened for a moment: only the stream itself says whether the server can begin there.
        var opener = opener(connection, facts)
        let stream = try opener.begin(at: start, .keysOnly, doing: "begin there")
        let here = target ?? stream.here
        stream.close()
        return StoredPosition(position: here.position, identity: facts.identity(of: config.scope))
    }

    /// A position as it is stored, or a time.
    private static func token(_ target: String) -> ResumeToken? {
        ResumeToken(text: target)
            ?? ClusterTime.parse(target).map { .at(clusterTime: $0) }
    }
}

extension MongoSource: SourceRows {
    package static func makeRowReader(
        _ config: Config, _ context: ConnectorContext
    ) throws(WeirError) -> any RowReader {
        MongoRowReader(config, context)
    }
}

extension MongoConnection {
    /// The cluster time of the first or last entry of the oplog; nil when it is empty.
    ///
    /// - Returns: its time, and whether it is what the replica set began with: then the log was
    ///   never full.
    fileprivate func oplogEnd(
        isFirst: Bool
    ) throws(MongoFailure) -> (time: UInt64, isBeginning: Bool)? {
        var command = BSONWriter()
        command.append("find", "oplog.rs")
        command.appendDocument("sort") { $0.append("$natural", int32: isFirst ? 1 : -1) }
        command.append("limit", int32: 1)
        command.appendDocument("projection") {
            $0.append("ts", int32: 1)
            $0.append("o.msg", int32: 1)
        }
        var time: UInt64?
        var isBeginning = false
        unsafe try visit(command.bytes, database: "local") { document in
            guard var cursor = unsafe BSONCursor(document) else { return }
            while cursor.next() {
                if cursor.isNamed("ts") { time = cursor.timestamp }
                // The first entry of every replica set: { msg: "initiating set" }.
                if cursor.isNamed("o"), cursor.type == .document,
                    var entry = unsafe BSONCursor(cursor.value), entry.next()
                {
                    let value = unsafe entry.value.dropFirst(4).dropLast()
                    isBeginning = unsafe value.elementsEqual("initiating set".utf8)
                }
            }
        }
        return time.map { ($0, isBeginning) }
    }
}
