import WeirCore
import WeirRedisClient

/// Turns a failure of the client into what the engine acts on. Pure.
struct RedisFailureMap {
    /// Host, port and database.
    let place: String
    let user: String?

    func error(_ failure: RedisFailure, doing work: String) -> WeirError {
        switch failure.kind {
        case .cancelled:
            return WeirError(.cancelled, .transient, "cancelled while trying to \(work)")
        case .connection: return make(.redisConnection, failure, work)
        case .timeout: return make(.redisTimeout, failure, work)
        case .tls: return make(.redisTLS, failure, work)
        case .authentication: return make(.redisAuthentication, failure, work)
        case .protocolError: return make(.redisProtocol, failure, work)
        case .reply(let code): return refusal(Self.inner(code, failure.message), failure, work)
        }
    }

    /// What a command inside of a script was refused with. Redis 7 answers with that itself, but
    /// for an ACL's refusal; older servers quote it:
    ///
    ///     ERR Error running script (call to f_…): @user_script:4: @user_script: 4: -OOM command …
    private static func inner(_ code: String, _ message: String) -> String {
        guard code == "ERR" else { return code }
        // Of a command it cannot read, such as one with a longer string than it takes; it then ends
        // the connection.
        if message.hasPrefix("ERR Protocol error") { return "PROTOCOL" }
        if message.hasPrefix("ERR The user executing the script can't") { return "NOPERM" }
        guard message.hasPrefix("ERR Error running script") else { return code }
        let quoted = message.split(separator: " ").first { word in
            word.count > 2 && word.first == "-" && word.dropFirst().allSatisfy(\.isUppercase)
        }
        return quoted.map { String($0.dropFirst()) } ?? code
    }

    private func refusal(_ code: String, _ failure: RedisFailure, _ work: String) -> WeirError {
        switch code {
        case "OOM": return make(.redisOutOfMemory, failure, work)
        case "READONLY": return make(.redisReadOnly, failure, work)
        case "LOADING", "BUSY", "MASTERDOWN", "TRYAGAIN", "UNKILLABLE":
            return make(.redisNotReady, failure, work)
        case "MISCONF": return make(.redisPersistence, failure, work)
        case "NOREPLICAS": return make(.redisReplicas, failure, work)
        case "NOPERM":
            var error = make(.redisPermission, failure, work)
            error.hint =
                "ACL SETUSER \(user ?? "default") +@read +@write +@scripting +@connection +info "
                + "+publish\nconnectors/redis/README.md lists fewer, and the key patterns."
            return error
        case "PROTOCOL": return make(.redisTooLarge, failure, work)
        case "MOVED", "ASK", "CROSSSLOT", "CLUSTERDOWN":
            return make(
                .redisCluster, failure, work,
                disposition: code == "CLUSTERDOWN" ? .transient : .blocked)
        default: return make(.redisCommand, failure, work)
        }
    }

    private func make(
        _ code: ErrorCode, _ failure: RedisFailure, _ work: String,
        disposition: Disposition = .transient
    ) -> WeirError {
        WeirError(
            code, disposition, "could not \(work) at \(place): \(failure.message)",
            hint: code.remedy)
    }
}
