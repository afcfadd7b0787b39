import Foundation
import Testing

/// What lies where, and who may know whom.
@Suite struct LayoutTests {
    @Test func theTopLevelHasItsSixEntries() throws {
        let names = try FileManager.default.contentsOfDirectory(atPath: repository.path)
            // The resolved versions are the user's own.
            .filter { !$0.hasPrefix(".") && $0 != "Package.resolved" }
        #expect(
            names.sorted()
                == ["Package.swift", "README.md", "Sources", "Tests", "config", "connectors"])
    }

    @Test func everyConnectorHasItsPage() throws {
        let root = repository.appendingPathComponent("connectors").path
        let systems = try FileManager.default.contentsOfDirectory(atPath: root)
            .filter { !$0.hasPrefix(".") }
        #expect(systems.count >= 2)
        for system in systems {
            #expect(
                FileManager.default.fileExists(atPath: "\(root)/\(system)/README.md"), "\(system)")
        }
    }

    /// Modules of ours that a folder may import; what is not ours is checked for the pure ones
    /// only.
    private static func allowed(in folder: String) -> Set<String>? {
        switch folder {
        case "Sources/WeirCore", "Sources/WeirJSON", "Sources/WeirFiles": []
        case "Sources/WeirValues", "Sources/WeirConfig": ["WeirCore", "WeirJSON"]
        case "Sources/WeirEngine": ["WeirCore", "WeirFiles"]
        case "Sources/WeirTesting": ["WeirCore"]
        case "Sources/weir-bench": ["WeirJSON", "WeirTesting", "WeirValues"]
        default: nil
        }
    }

    private static func allowed(inConnector system: String, role: String) -> Set<String> {
        let base: Set = ["WeirCore", "WeirJSON", "WeirValues"]
        let own =
            system == "mongodb" ? "MongoDB" : system.prefix(1).uppercased() + system.dropFirst()
        let name = "Weir\(own)"
        if role == "Client" { return ["WeirCore"] }
        return system == "builtin" ? base.union(["WeirFiles"]) : base.union([name + "Client"])
    }

    @Test func importsFollowTheDirections() throws {
        for file in try SourceFile.all(in: ["Sources", "connectors"]) {
            let parts = file.path.split(separator: "/").map(String.init)
            let ours = file.imports.filter { $0.module.hasPrefix("Weir") }
            let allowed: Set<String>
            if parts[0] == "connectors" {
                allowed = Self.allowed(inConnector: parts[1], role: parts[2])
            } else if parts[1] == "weir" {
                // The one place that knows every connector.
                let connectors = ours.map(\.module).filter {
                    $0.hasSuffix("Source") || $0.hasSuffix("Sink")
                }
                let isList = parts.last == "Connectors.swift"
                allowed = Set(isList ? connectors : [])
                    .union(["WeirCore", "WeirConfig", "WeirEngine", "WeirJSON"])
            } else {
                allowed = try #require(
                    Self.allowed(in: parts[0] + "/" + parts[1]), "no rule for \(file.path)")
            }
            for (module, line) in ours where !allowed.contains(module) {
                Issue.record("\(file.path):\(line) must not import \(module)")
            }
        }
    }

    /// What connector authors import, and what renders values, does no I/O at all.
    @Test func thePureModulesImportNothing() throws {
        let pure = ["Sources/WeirCore", "Sources/WeirJSON", "Sources/WeirValues"]
        for file in try SourceFile.all(in: pure) {
            for (module, line) in file.imports where !module.hasPrefix("Weir") {
                Issue.record("\(file.path):\(line) must not import \(module)")
            }
        }
    }

    /// C calls live in the client targets; tests and benchmarks ask the servers by them too.
    @Test func onlyClientsImportTheirCLibrary() throws {
        for file in try SourceFile.all(in: SourceFile.code) {
            for (module, line) in file.imports
            where module.hasPrefix("CLib") && !file.path.contains("/Client/")
                && !file.path.hasPrefix("Sources/WeirTesting/")
                && !file.path.hasPrefix("Sources/weir-bench/")
                && !file.path.hasPrefix("Tests/")
            {
                Issue.record("\(file.path):\(line) must not import \(module)")
            }
        }
    }

    /// What a position's numbers mean, and of which system it is, only its source knows: all others
    /// compare it, keep its text, and show it as its `SourceNotation` does.
    @Test func onlySourcesKnowWhatPositionsMean() throws {
        let words = try [
            // Their parts, and their text taken apart.
            #"[pP]osition[?)\]]*\.(high|low|tail)\b"#, #"[pP]osition[?)\]]*\.(text|description)\."#,
            // One system's words.
            #"\b([cC]lusterTime|[rR]esumeToken|LSN)\b"#,
            // Which system is it?
            #"\b(sourceType|source\.type|sourceKind|idPrefix|idHead)\s*([!=]=|\{)"#,
        ].map { try Regex($0) }
        for file in try SourceFile.all(in: ["Sources", "connectors"]) {
            let folders = file.path.split(separator: "/")
            let isSource = folders[0] == "connectors" && ["Source", "Client"].contains(folders[2])
            if isSource || ["WeirTesting", "weir-bench"].contains(folders[1])
                || ["Position.swift", "SourceNotation.swift"].contains(folders[2])
            {
                continue
            }
            for (index, line) in file.code.enumerated() where words.contains(where: line.contains) {
                Issue.record("\(file.path):\(index + 1) asks what a position means: \(line)")
            }
        }
    }
}
