import Glibc
import WeirCore
import WeirMongoDBClient
import WeirValues

/// What a server says of itself.
struct ServerFacts {
    /// Nil behind mongos routers.
    private(set) var replicaSet: String?
    /// It is a mongos router.
    private(set) var isRouter = false
    private(set) var wireVersion = 0
    private(set) var version = ""
    /// The deployment's own time, not behind anything a stream has sent; 0 where it does not say.
    private(set) var clusterTime: UInt64 = 0

    var clusterTimeOrClock: UInt64 {
        clusterTime == 0 ? UInt64(time(nil)) << 32 : clusterTime
    }

    /// From `hello` and `buildInfo`.
    init(_ connection: MongoConnection) throws(MongoFailure) {
        let hello = try Self.hello(connection)
        unsafe hello.withBytes { bytes in
            guard var root = unsafe BSONCursor(bytes) else { return }
            while root.next() {
                if root.isNamed("setName") {
                    replicaSet = root.text
                } else if root.isNamed("msg") {
                    isRouter = root.text == "isdbgrid"
                } else if root.isNamed("maxWireVersion") {
                    wireVersion = root.integer ?? 0
                } else if root.isNamed("$clusterTime") {
                    clusterTime = root.clusterTime ?? 0
                }
            }
        }
        let build = try connection.run(
            BSONWriter.document { $0.append("buildInfo", int32: 1) }, database: "admin")
        unsafe build.withBytes { bytes in
            guard var root = unsafe BSONCursor(bytes) else { return }
            while root.next() {
                if root.isNamed("version") { version = root.text ?? "" }
            }
        }
    }

    /// Servers before 4.2.10 and 4.4.2 know the command by its former name only.
    private static func hello(_ connection: MongoConnection) throws(MongoFailure) -> MongoReply {
        do throws(MongoFailure) {
            return try connection.run(
                BSONWriter.document { $0.append("hello", int32: 1) }, database: "admin")
        } catch {
            guard error.code == 59 else { throw error }
            return try connection.run(
                BSONWriter.document { $0.append("isMaster", int32: 1) }, database: "admin")
        }
    }

    /// It has refused to send images, as a 6.0 does whose feature compatibility version is older:
    /// one that was upgraded without `setFeatureCompatibilityVersion`.
    var refusesImages = false

    /// Pre- and post-images came with 6.0.
    var hasImages: Bool { wireVersion >= 17 && !refusesImages }

    /// `startAfter` came with 4.2.
    var isSupported: Bool { wireVersion >= 8 }

    var description: String {
        let kind = isRouter ? "sharded cluster" : replicaSet.map { "replica set \($0)" }
        return (["MongoDB \(version)"] + [kind].compactMap(\.self)).joined(separator: ", ")
    }

    func identity(of scope: Scope) -> SourceIdentity {
        SourceIdentity([
            ("set", isRouter ? "mongos" : replicaSet ?? ""),
            ("scope", scope.database ?? "deployment"),
        ])
    }
}

extension MongoConnection {
    func times() throws(MongoFailure) -> ServerTimes {
        let reply = try run(
            BSONWriter.document { $0.append("ping", int32: 1) }, database: "admin")
        return unsafe reply.withBytes { bytes in
            var times = ServerTimes()
            guard var root = unsafe BSONCursor(bytes) else { return times }
            while root.next() {
                if root.isNamed("operationTime") { times.own = root.timestamp }
                if root.isNamed("$clusterTime") { times.deployment = root.clusterTime }
            }
            return times
        }
    }
}

/// How far a server says that it and its deployment are, in cluster times. Pure.
struct ServerTimes: Equatable {
    /// Of the newest operation it has; nil where it does not say.
    var own: UInt64?
    /// Of the newest it has heard of.
    var deployment: UInt64?

    /// How far a stream of that server will come. That is its own time, unless it stands still: a
    /// secondary that gets nothing any more would never be behind.
    ///
    /// The deployment's time may lie beyond its last operation, since times are reserved and not
    /// used. A primary writes something every ten seconds at least.
    var reached: UInt64? {
        guard let own, let deployment else { return own }
        return deployment.clusterSeconds - own.clusterSeconds > 15 ? deployment : own
    }
}

// For the few answers that are looked at once.
extension BSONCursor {
    /// The element as text, if it is one.
    var text: String? {
        guard type == .string else { return nil }
        return unsafe String(decoding: value.dropFirst(4).dropLast(1), as: UTF8.self)
    }

    /// The element as a whole number, whichever of the three number types it has.
    var integer: Int? {
        switch type {
        case .int32: unsafe Int(value.loadUnaligned(as: Int32.self))
        case .int64: unsafe Int(value.loadUnaligned(as: Int64.self))
        case .double: unsafe Int(exactly: value.loadUnaligned(as: Double.self))
        default: nil
        }
    }

    /// Seconds in the upper half, increment in the lower.
    var timestamp: UInt64? {
        type == .timestamp ? unsafe value.loadUnaligned(as: UInt64.self) : nil
    }

    /// The time in a `$clusterTime`, which is signed.
    var clusterTime: UInt64? {
        guard var members else { return nil }
        while members.next() {
            if members.isNamed("clusterTime") { return members.timestamp }
        }
        return nil
    }

    /// The elements of the document or array.
    var members: BSONCursor? {
        type == .document || type == .array ? unsafe BSONCursor(value) : nil
    }
}
