#!/bin/bash
# The systemd unit: complete, understood by systemd where it is installed, and without the
# settings that would hide the mount from the host.
. "$(dirname "$0")/../lib/testlib.sh"

made=$top_builddir/contrib/systemd/pgbranchfs@.service
unit=$TMP/pgbranchfs@.service
ok 'the unit was made' test -s "$made"
nok 'every path is filled in' grep -E '@[a-z]+@' "$made"
like 'it starts what is installed' "$(grep '^ExecStart=' "$made")" '^ExecStart=/.*/pgbranchfs mount -f '

# systemd.exec(5): each of these makes a mount namespace, some in later versions only
hidden='PrivateMounts|PrivateTmp|PrivateDevices|PrivateIPC|PrivateUsers|Protect(System|Home|Proc|Hostname)'
hidden+='|ProcSubset|Protect(KernelTunables|KernelModules|KernelLogs|ControlGroups)|DynamicUser'
hidden+='|(ReadOnly|ReadWrite|Inaccessible|NoExec|Exec|Bind|BindReadOnly)Paths|TemporaryFileSystem'
hidden+='|Root(Directory|Image)|MountImages|ExtensionImages|MountAPIVFS|LogNamespace'
nok 'nothing hides the mount' grep -E "^($hidden)=" "$made"

# The manual's page need not be installed, the program is this one.
sed "s,^ExecStart=[^ ]*,ExecStart=$PGBRANCHFS," "$made" >"$unit"
if command -v systemd-analyze >/dev/null; then
	is 'systemd has nothing to say about it' \
		"$(systemd-analyze --man=no verify "${unit/@/@some-name}" 2>&1)" ''
	like 'nor would it overlook a mistake' "$(
		sed 's/^KillMode=.*/KillMode=nonsense/' "$made" >"$TMP/bad@.service"
		systemd-analyze --man=no verify "$TMP/bad@some-name.service" 2>&1
	)" 'KillMode|kill mode'
else
	say '# systemd-analyze is not installed: not verified'
fi
done_testing
