<?php
// Whether the server echoes: php ping.php SERVERS < DATA
$client = new GearmanClient();
$client->addServers($argv[1]);
exit($client->ping(stream_get_contents(STDIN)) ? 0 : 1);
