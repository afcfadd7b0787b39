import WeirTesting

extension MongoReplicaSet {
    /// One node as in production, but that no checkpoint disturbs the measurement, and that a whole
    /// load stays in the oplog and in memory.
    static func quiet() async throws -> MongoReplicaSet {
        try await start(
            MongoServer.Options(
                oplogMegabytes: 2_048, syncDelaySeconds: 3_600,
                arguments: ["--wiredTigerEngineConfigString", "cache_size=2GB"]))
    }
}
