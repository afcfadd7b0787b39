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
        let hello = try connection.run(
            BSONWriter.document { $0.append("hello", int32: 1) }, database: "admin")
        unsafe hello.withBytes { bytes in
            guard var root = unsafe BSONCursor(bytes) else { return }
            while root.next() {
                if root.isNamed("setName") {
                    replicaSet = root.text
                } else if root.isNamed("msg") {
                    isRouter = root.text == "isdbgrid"
                } else if root.isNamed("maxWireVersion") {
                    wireVersion = root.integer ?? 0
                } else if root.isNamed("$clusterTime"), var time = root.members {
                    while time.next() {
                        if time.isNamed("clusterTime") { clusterTime = time.timestamp ?? 0 }
                    }
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

    /// Pre- and post-images came with 6.0.
    var hasImages: Bool { wireVersion >= 17 }

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
    /// The time of the newest operation its server knows; nil where the server does not say.
    func operationTime() throws(MongoFailure) -> UInt64? {
        let reply = try run(
            BSONWriter.document { $0.append("ping", int32: 1) }, database: "admin")
        return unsafe reply.withBytes { bytes -> UInt64? in
            guard var root = unsafe BSONCursor(bytes) else { return nil }
            while root.next() {
                if root.isNamed("operationTime") { return root.timestamp }
            }
            return nil
        }
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

    /// The elements of the document or array.
    var members: BSONCursor? {
        type == .document || type == .array ? unsafe BSONCursor(value) : nil
    }
}
