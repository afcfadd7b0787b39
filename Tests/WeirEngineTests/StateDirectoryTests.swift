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

    @Test(arguments: [("", true), ("x", false), ("xxxx", false)])
    func aPathTooLongForASocketIsRefused(more: String, isTaken: Bool) throws {
        let room = 103 - folder.path.utf8.count - "//weir.sock".utf8.count
        let directory = StateDirectory(
            folder.file(String(repeating: "x", count: room) + more))
        #expect(directory.socketPath.utf8.count == 103 + more.utf8.count)
        if isTaken {
            try directory.create()
        } else {
            #expect { try directory.create() } throws: {
                ($0 as? WeirError)?.message.contains("longer than the 103 bytes") == true
            }
        }
    }

    @Test func aFolderThatOthersMayWriteToIsRefusedAndTheHintMendsIt() throws {
        try directory.create()
        for name in ["", "/spill"] {
            let path = directory.path + name
            unsafe chmod(path, 0o770)
            let error = try #require(
                #expect(throws: WeirError.self) { try directory.create() })
            #expect(error.disposition == .blocked && error.message.contains("mode 0770"))
            let command = try #require(error.hint?.firstRange(of: "chmod"))
            let hint = try #require(error.hint)
            let result = try runProcess("/bin/sh", ["-c", String(hint[command.lowerBound...])])
            #expect(result.status == .exited(0))
            try directory.create()
        }
        // Only readable, it is closed.
        unsafe chmod(directory.path, 0o755)
        try directory.create()
        let facts = try FileManager.default.attributesOfItem(atPath: directory.path)
        #expect((facts[.posixPermissions] as? Int) == 0o700)
    }

    @Test(.enabled(if: geteuid() == 0)) func aFolderOfAnotherUserIsRefused() throws {
        try directory.create()
        unsafe chown(directory.path, 65_534, 65_534)
        let error = try #require(#expect(throws: WeirError.self) { try directory.create() })
        #expect(error.disposition == .blocked)
        #expect(error.message.contains("belongs to user 65534, and Weir runs as user 0"))
    }

    /// What stands in the file is trusted only as far as its owner could have sent the signal.
    @Test(.enabled(if: geteuid() == 0), arguments: ["-1", "0", "1", "", "x", "99999999999"])
    func aPidThatMeansManyOrNoneIsNoTarget(text: String) throws {
        try directory.create()
        let lock = try directory.lock()
        try folder.write(text + "\n", to: "state/weir.pid")
        #expect(directory.runningPID() == nil)
        #expect { try directory.signalTarget() } throws: {
            ($0 as? WeirError)?.hint?.contains("fuser \(directory.lockPath)") == true
        }
        _ = consume lock
        #expect(try directory.signalTarget() == nil)
    }

    @Test(.enabled(if: geteuid() == 0)) func aPidOfAnotherUserIsNoTarget() throws {
        try directory.create()
        let lock = try directory.lock()
        #expect(try directory.signalTarget() == getpid())
        unsafe chown(directory.lockPath, 65_534, 65_534)
        #expect(directory.runningPID() == nil)
        #expect(throws: WeirError.self) { try directory.signalTarget() }
        _ = consume lock
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
