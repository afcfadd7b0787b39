import WeirCore
import WeirPostgresClient

/// The slots and publications that Weir made for a pipeline and has not dropped, so that one which
/// is no longer configured is not forgotten. Kept in the source's notes. Pure.
struct MadeObjects: Sendable, Equatable {
    /// Of the server they are on.
    var system: String
    var slots: [String] = []
    var publications: [String] = []

    var text: String {
        ([system.escapedWord] + slots.map { "slot:\($0.escapedWord)" }
            + publications.map { "publication:\($0.escapedWord)" }).joined(separator: " ")
    }

    init(system: String) { self.system = system }

    /// Nil for what is no such note.
    init?(text: String) {
        let words = text.split(separator: " ")
        guard let first = words.first else { return nil }
        system = String(first).unescapedWord
        for word in words.dropFirst() {
            let parts = word.split(separator: ":", maxSplits: 1).map(String.init)
            guard parts.count == 2 else { continue }
            let name = parts[1].unescapedWord
            if parts[0] == "slot" { slots.append(name) } else { publications.append(name) }
        }
    }
}

extension PostgresSource {
    private static let madeNote = "made"

    /// What is remembered, with what notes of earlier versions tell.
    private func made(_ system: String) async throws(WeirError) -> MadeObjects {
        let note = try await context.notes.get(Self.madeNote)
        if let made = note.flatMap(MadeObjects.init(text:)), made.system == system { return made }
        var made = MadeObjects(system: system)
        let intent = try await context.notes.get("slot")?.split(separator: " ", maxSplits: 1)
        if let intent, intent.count == 2, intent[0] == system { made.slots = [String(intent[1])] }
        if let name = try await context.notes.get("publication"), !name.isEmpty {
            made.publications = [name]
        }
        return made
    }

    func system(_ sql: PostgresConnection) throws(WeirError) -> String {
        try run(
            "SELECT system_identifier FROM pg_catalog.pg_control_system()", on: sql,
            to: "identify the server"
        ).first?[0] ?? ""
    }

    /// Before something is made, so that a crash does not leave it unknown.
    func rememberMade(
        slot: String? = nil, publication: String? = nil, on system: String
    ) async throws(WeirError) {
        var made = try await made(system)
        if let slot, !made.slots.contains(slot) { made.slots.append(slot) }
        if let publication, !made.publications.contains(publication) {
            made.publications.append(publication)
        }
        try await keep(made)
    }

    private func keep(_ made: MadeObjects) async throws(WeirError) {
        if try await context.notes.get(Self.madeNote) != made.text {
            try await context.notes.set(Self.madeNote, made.text)
        }
    }

    /// What Weir made here and the configuration names no more, as far as it still exists.
    struct LeftBehind {
        struct Slot {
            let name: String
            let retainedBytes: Int64?
            /// The server lets it have small letters, digits and underscores only.
            var drop: String { "SELECT pg_drop_replication_slot('\(name)');" }
        }
        var slots: [Slot] = []
        var publications: [String] = []

        static func drop(publication: String) -> String {
            "DROP PUBLICATION \(PostgresConnection.identifier(publication));"
        }
    }

    /// A slot that is in use has got another master, and is left out.
    func leftBehind(_ sql: PostgresConnection) async throws(WeirError) -> LeftBehind {
        var made = try await made(system(sql))
        var left = LeftBehind()
        let slots = try run(
            "SELECT slot_name, active, pg_wal_lsn_diff((\(Slot.headQuery)), restart_lsn)::bigint "
                + "FROM pg_catalog.pg_replication_slots "
                + "WHERE database = pg_catalog.current_database()", on: sql,
            to: "look at the replication slots")
        for name in made.slots where name != config.slot {
            guard let row = slots.first(where: { $0[0] == name }), row[1] != "t" else { continue }
            left.slots.append(
                LeftBehind.Slot(name: name, retainedBytes: row[2].flatMap { Int64($0) }))
        }
        let publications = try run(
            "SELECT pubname FROM pg_catalog.pg_publication", on: sql, to: "look at publications"
        ).compactMap { $0[0] }
        left.publications = made.publications.filter {
            $0 != config.publication && publications.contains($0)
        }
        // What is gone is forgotten: somebody may make another of that name.
        made.slots.removeAll { name in
            name != config.slot && !slots.contains { $0[0] == name }
        }
        made.publications.removeAll { $0 != config.publication && !publications.contains($0) }
        try await keep(made)
        return left
    }

    /// Nobody else would say that a slot keeps the log.
    func raiseLeftBehind(_ sql: PostgresConnection) async throws(WeirError) {
        let left = try await leftBehind(sql)
        let close = " Or with the pipeline: weir drop \(context.pipeline) --yes"
        for slot in left.slots {
            let bytes =
                slot.retainedBytes.map { " and keeps \($0) bytes of the server's log" } ?? ""
            raise(
                Finding(
                    .leftBehind, .warning, "slot \(slot.name)",
                    "replication slot \"\(slot.name)\", which Weir made for this pipeline, is no "
                        + "longer configured\(bytes)",
                    detail: "Changes it holds that were not delivered go with it.",
                    hint: slot.drop + close))
        }
        for name in left.publications {
            raise(
                Finding(
                    .leftBehind, .warning, "publication \(name)",
                    "publication \"\(name)\", which Weir made for this pipeline, is no longer "
                        + "configured",
                    hint: LeftBehind.drop(publication: name) + close))
        }
    }
}
