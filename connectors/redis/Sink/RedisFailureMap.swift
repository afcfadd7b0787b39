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
        case .reply(let code): return refusal(code, failure, work)
        }
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
                + "+publish and the key patterns of the sink; see connectors/redis/README.md."
            return error
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
