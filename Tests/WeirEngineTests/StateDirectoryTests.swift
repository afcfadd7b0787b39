import Foundation
import Glibc
import Testing
import WeirCore
import WeirTesting

@testable import WeirEngine

@Suite(.timeLimit(.minutes(1))) struct StateDirectoryTests {
    private let folder: TemporaryDirectory
    private var directory: StateDirectory { StateDirectory(folder.file("state")) }
    init() throws { folder = try TemporaryDirectory() }

    @Test func aSecondLockIsRefusedWithThePid() throws {
        try directory.create()
        #expect(directory.runningPID() == nil)
        let lock = try directory.lock()
        #expect(directory.runningPID() == getpid())
        #expect {
            let second = try directory.lock()
            _ = consume second
        } throws: { error in
            guard let error = error as? WeirError else { return false }
            return error.code.name == "state.locked" && error.disposition == .blocked
                && error.message.contains("(pid \(getpid()))")
                && error.hint?.contains("weir stop") == true
        }
        _ = consume lock
        #expect(directory.runningPID() == nil)
        let again = try directory.lock()
        _ = consume again
    }

    @Test func theFolderIsForItsOwnerAlone() throws {
        let mask = umask(0)
        defer { umask(mask) }
        try directory.create()
        for name in ["", "/spill"] {
            let facts = try FileManager.default.attributesOfItem(atPath: directory.path + name)
            #expect((facts[.posixPermissions] as? Int) == 0o700)
        }
        let lock = try directory.lock()
        let facts = try FileManager.default.attributesOfItem(atPath: directory.lockPath)
        #expect((facts[.posixPermissions] as? Int) == 0o600)
        _ = consume lock
    }

    @Test func aPathTooLongForASocketIsRefused() {
        let long = StateDirectory("/tmp/" + String(repeating: "x", count: 120))
        #expect { try long.create() } throws: { ($0 as? WeirError)?.disposition == .blocked }
    }

    @Test func aLockFileThatIsALinkIsNotFollowed() throws {
        try directory.create()
        try folder.write("precious", to: "other")
        try FileManager.default.createSymbolicLink(
            atPath: directory.lockPath, withDestinationPath: folder.file("other"))
        #expect(throws: WeirError.self) {
            let lock = try directory.lock()
            _ = consume lock
        }
        #expect(try String(contentsOfFile: folder.file("other"), encoding: .utf8) == "precious")
    }

    @Test func aPlainFileInThePlaceOfTheFolderIsRefused() throws {
        try folder.write("", to: "state")
        #expect(throws: WeirError.self) { try directory.create() }
    }
}
