package import WeirCore
import WeirRedisClient
import WeirValues

extension RedisSink: SinkCheck {
    /// What would fail at the first event, in the night, is said at the start: columns, keys that
    /// cannot be known, rights, memory. Nothing of the service's is written.
    package func check(_ tables: [TableSchema]) async throws(WeirError) -> [Finding] {
        var findings: [Finding] = []
        for schema in tables {
            let name = TableName(schema: schema.schema, name: schema.name).description
            do throws(WeirError) {
                // What only rows from before have stops the sink behind them, and not here.
                let gone = config.goneColumns(of: schema)
                findings += gone
                if gone.contains(where: { $0.code == .columnGone }) { continue }
                guard let table = try CachedTable(schema, config) else { continue }
                if let finding = unknownKeys(of: table, schema, name) { findings.append(finding) }
            } catch {
                findings.append(
                    Finding(
                        error.code, .blocking, name, error.message, detail: error.detail,
                        hint: error.hint))
            }
        }
        if findings.contains(where: { $0.severity == .blocking }) { return findings }
        if let finding = try await leftByTruncate() { findings.append(finding) }
        do throws(WeirError) {
            let link = try await ready()
            try await checkRights(link)
            if let finding = memoryLimit(link) { findings.append(finding) }
        } catch {
            abandon()
            throw error
        }
        return findings
    }

    /// The key of a row that changes or goes must be known. Of documents that depends on images,
    /// which each change has or has not.
    private func unknownKeys(
        of table: CachedTable, _ schema: TableSchema, _ name: String
    ) -> Finding? {
        let changes: [Operation] = [.update, .delete]
        guard !table.key.columnsAreWithinKey, schema.sendsWholeOldRows == false,
            config.onUnknownKey == .stop, changes.contains(where: table.projection.takes)
        else { return nil }
        let error = WeirError.keyUnknown(schema, config)
        return Finding(
            error.code, .warning, name, error.message,
            detail: "The first row that is updated or deleted stops the sink.", hint: error.hint)
    }

    // MARK: TRUNCATE

    private var truncateNote: String { "redis truncate ignored \(context.name)" }

    /// Its keys stay, and nothing but a change of their rows or the ttl ends them.
    func note(ignoredTruncate place: String) async throws(WeirError) {
        try await context.notes.set(truncateNote, place)
        context.reports.raise(ignoredTruncate(at: place))
    }

    private func ignoredTruncate(at place: String) -> Finding {
        Finding(
            .redisTruncateIgnored, .warning, config.key.normalized,
            "the source was emptied at \(place), and keys \(config.key.normalized) from before stay "
                + "(\"truncate\": \"ignore\")",
            hint: "To have the next one applied: \"truncate\": \"delete\" in the sink. To remove "
                + "every key that Weir wrote until then: \(removal)")
    }

    /// A shell's command that removes the keys of the template that have a version of ours, as a
    /// TRUNCATE does. Others that look alike stay.
    private var removal: String {
        // Behind a pipe nothing can ask for it.
        let cli = config.options.commandLine.replacing(" --askpass", with: "")
        let secret = config.options.commandLine == cli ? "" : "(the password in REDISCLI_AUTH) "
        let pattern = String(decoding: config.key.sideGlobPattern, as: UTF8.self)
        let name = pattern.hasPrefix("{") ? "s/^{\\(.*\\)}:v$/\\1/" : "s/:v$//"
        return
            "\(secret)\(cli) --scan --pattern \(pattern.shellWord) | sed -n -e \((name + "p").shellWord) "
            + "| tr '\\n' '\\0' | xargs -0 -r \(cli) UNLINK"
    }

    /// What an ignored TRUNCATE left behind: a gap once it would no longer be ignored.
    private func leftByTruncate() async throws(WeirError) -> Finding? {
        guard let place = try await context.notes.get(truncateNote), !place.isEmpty else {
            return nil
        }
        guard config.truncates, config.routing.operations.contains(.truncate) else {
            return ignoredTruncate(at: place)
        }
        try await context.reports.declare(
            DeclaredGap(
                .redisTruncateIgnored, config.key.normalized, from: place,
                "keys \(config.key.normalized) from before the source was emptied at \(place) may "
                    + "still be there: TRUNCATE is applied only from now on",
                hint: "Remove them; rows that are still there come again with their next change: "
                    + "\(removal) Then: weir gap resolve ID"))
        try await context.notes.set(truncateNote, "")
        return nil
    }

    private func memoryLimit(_ link: RedisLink) -> Finding? {
        guard let limit = link.memoryLimit, limit.bytes > 0, config.form != .invalidate else {
            return nil
        }
        let keepsKeys = limit.policy.hasPrefix("volatile-") && config.lifetime.ttlMillis == 0
        guard limit.policy == "noeviction" || keepsKeys else { return nil }
        let place = config.options.url.place
        return Finding(
            .redisMemoryLimit, .warning, place,
            "Redis at \(place) refuses writes once it holds \(limit.bytes) bytes",
            detail:
                "Its maxmemory-policy is \(limit.policy), which evicts none of this sink's keys.",
            hint: ErrorCode.redisMemoryLimit.remedy)
    }

    // MARK: Rights

    private func checkRights(_ link: RedisLink) async throws(WeirError) {
        let user = config.options.username ?? config.options.url.username ?? "default"
        let probe = "weir:{\(context.pipeline)/\(context.name)}:check"
        do {
            _ = try await link.refused([], on: config.key.sample("weir"))
            if config.scans {
                _ = try await link.scan(from: "0", matching: config.key.sideGlobPattern)
            }
        } catch {
            var error = failed(error)
            if error.code == .redisPermission {
                error.hint = "ACL SETUSER \(user) \(keyRights)" + (config.scans ? " +scan" : "")
            }
            throw error
        }
        let refused: [String]
        do {
            refused = try await link.refused(config.scriptCommands, on: [Array(probe.utf8)])
        } catch {
            var error = failed(error)
            if error.code == .redisPermission { error.hint = "ACL SETUSER \(user) ~weir:*" }
            throw error
        }
        if refused.isEmpty { return }
        throw WeirError(
            .redisPermission, .transient,
            "user \"\(user)\" may not run \(refused.joined(separator: ", ")) at "
                + config.options.url.place,
            hint: "ACL SETUSER \(user) " + refused.map { "+\($0)" }.joined(separator: " "))
    }

    /// The patterns of all keys the sink uses, as an ACL takes them.
    private var keyRights: String {
        [config.key.globPattern, config.key.sideGlobPattern, Array("weir:*".utf8)]
            .map { "~" + String(decoding: $0, as: UTF8.self) }.joined(separator: " ")
    }
}

extension RedisSinkConfig {
    fileprivate func goneColumns(of schema: TableSchema) -> [Finding] {
        guard Operation.allCases.contains(where: { routing.takes($0, of: schema) }) else {
            return []
        }
        return schema.findings(naming: key.paths, under: "key")
            + schema.findings(naming: value.map { [$0] } ?? [], under: "value")
            + schema.findings(naming: columns?.paths ?? [], under: "columns")
    }

    /// Keys that no row has any more are looked for: after a TRUNCATE, or once all rows were read
    /// again.
    var scans: Bool {
        truncates || onDataLoss == .reread && routing.operations.contains(.delete)
    }

    /// What the scripts run that this configuration calls, and no more: a user who may do all that
    /// is needed is not sent for rights.
    var scriptCommands: [String] {
        let takes = routing.operations
        let changes = takes.contains(.update)
        /// A value that is null has no key either.
        let removes = changes || takes.contains(.delete) || form == .string
        let hasTTL = lifetime.ttlMillis > 0
        var commands: Set = ["set"]
        if form == .invalidate {
            commands.insert("unlink")
            if holdMillis > 0 || scans { commands.insert("psetex") }
            if scans { commands.insert("mget") }
        } else {
            commands.insert("mget")
            if removes || scans { commands.formUnion(["unlink", "psetex"]) }
            if hasTTL { commands.insert("psetex") }
        }
        switch script {
        case .setForever: commands.insert("mset")
        case .hash:
            commands.formUnion(["unlink", "hset", hasTTL ? "pexpire" : "persist"])
            if changes { commands.formUnion(["type", "hdel"]) }
        default: break
        }
        return commands.sorted()
    }
}
